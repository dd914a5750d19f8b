"""`vxp-data run`: one recipe from annotations to shards, each step only if need be."""
