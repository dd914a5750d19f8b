"""The special tokens of a tokenizer: of chat turns, of visual positions, of padding.

Ids are looked up both ways: for a token that it does not have, a tokenizer may give None or, as
Qwen2's does, the id of its unknown token, which is the padding too.
"""

from __future__ import annotations

from typing import Any, Final

from transformers import AddedToken

from vxp_model.errors import UserError, require

START: Final = "<|im_start|>"
END: Final = "<|im_end|>"
END_OF_TEXT: Final = "<|endoftext|>"
VISUAL_TOKEN: Final = "<|vision_pad|>"
"""Where a visual token goes, unless a processor is told another."""

_TAKE: Final = "Take the tokenizer of a Qwen2.5 or Qwen3 model"


def find_token(tokenizer: Any, token: str) -> int | None:
    """Return a token's id; None where the tokenizer does not have it."""
    found = tokenizer.convert_tokens_to_ids(token)
    if found is None or tokenizer.convert_ids_to_tokens(found) != token:
        return None
    return int(found)


def with_visual_token(tokenizer: Any, *, num_embeddings: int) -> int:
    """Return the id of `VISUAL_TOKEN`, which is added to a tokenizer that lacks it.

    Qwen1.5 and Qwen2 lack it; their embeddings have more rows than their tokenizers have tokens,
    and one of these becomes the token's. What is in the row does not matter: visual tokens take its
    place.

    Args:
        tokenizer: changed in place where it lacks the token.
        num_embeddings: rows of the language model's embeddings.

    Raises:
        UserError: it lacks the token, and the embeddings have no row for one more.
    """
    found = find_token(tokenizer, VISUAL_TOKEN)
    if found is None:
        last = max(tokenizer.get_vocab().values())
        require(
            last + 1 < num_embeddings,
            f"the tokenizer has no token {VISUAL_TOKEN!r}, and of the language model's "
            f"{num_embeddings:,} embeddings none is left for it: the last token is {last:,}. "
            f"{_TAKE} and that model, or enlarge the embeddings (resize_token_embeddings).",
        )
        tokenizer.add_tokens([AddedToken(VISUAL_TOKEN, special=True, normalized=False)])
        found = find_token(tokenizer, VISUAL_TOKEN)
        assert found is not None
    require(
        found < num_embeddings,
        f"the tokenizer's {VISUAL_TOKEN!r} is token {found:,}, and the language model has "
        f"{num_embeddings:,} embeddings: tokenizer and model are not of one kind.",
    )
    return found


def check_tokens(tokenizer: Any, visual_token: str) -> None:
    """Check that a tokenizer has what prompts are made of, and see that it can pad.

    Padding that it lacks, or that is the visual token, becomes `END_OF_TEXT`, or `END` where it
    does not have that either.

    Args:
        tokenizer: its padding may be changed.
        visual_token: the token for visual positions.

    Raises:
        UserError: a token is missing, or the visual one has another meaning.
    """
    for token in (START, END):
        require(
            find_token(tokenizer, token) is not None,
            f"the tokenizer has no token {token!r}, which chat turns are made of. {_TAKE}.",
        )
    found = find_token(tokenizer, visual_token)
    if found is None:
        raise UserError(
            f"the tokenizer has no token {visual_token!r} for visual positions. {_TAKE}, or name "
            "a special token that this one has as visual_token."
        )
    meanings = [START, END, END_OF_TEXT, tokenizer.unk_token, tokenizer.eos_token]
    added = tokenizer.added_tokens_decoder.get(found)
    if visual_token in meanings or added is None or not added.special:
        raise UserError(
            f"the token for visual positions would be {visual_token!r} (id {found}), which "
            "has another meaning in text, or is padding. It has to be a special token of its own, "
            f"as Qwen2.5's {VISUAL_TOKEN!r}. {_TAKE}; a model made with another has to be trained "
            "anew."
        )
    if tokenizer.pad_token_id is None or tokenizer.pad_token == visual_token:
        has_end = find_token(tokenizer, END_OF_TEXT) is not None
        tokenizer.pad_token = END_OF_TEXT if has_end else END


def end_ids(tokenizer: Any) -> list[int]:
    """Return the tokens that end an answer: `END` of a turn, and `END_OF_TEXT` if there is one.

    Of a base model, `eos_token` is the second alone, which no answer that it is trained on has.
    """
    found = (find_token(tokenizer, token) for token in (END, END_OF_TEXT))
    return [one for one in found if one is not None]


def set_answer_ends(model: Any, tokenizer: Any) -> None:
    """Write into a model what ends its answers and what fills up behind them.

    Args:
        model: its `generation_config` is changed, and stored with it.
        tokenizer: of its processor.
    """
    model.generation_config.eos_token_id = end_ids(tokenizer)
    model.generation_config.pad_token_id = int(tokenizer.pad_token_id)


def check_fits(config: Any, processor: Any) -> None:
    """Check that a processor is that of a model.

    Args:
        config: of the model.
        processor: with its tokenizer.

    Raises:
        UserError: they differ about visual positions, or the tokenizer has more tokens than the
            model has embeddings.
    """
    require(
        config.visual_token_id == processor.visual_token_id,
        f"the model has token {config.visual_token_id} at visual positions, its processor "
        f"{processor.visual_token_id} ({processor.visual_token!r}): they are not of one model.",
    )
    num_embeddings = int(config.text_config.vocab_size)
    used = {*end_ids(processor.tokenizer), int(processor.tokenizer.pad_token_id)}
    require(
        max(used) < num_embeddings,
        f"the tokenizer's special tokens go up to {max(used):,}, and the language model has "
        f"{num_embeddings:,} embeddings: tokenizer and model are not of one kind.",
    )
