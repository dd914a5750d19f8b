"""A text model of `transformers` in a folder: what it says, and how likely it finds a text.

Shapes: B prompts, L positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vxp_model.errors import UserError
from vxp_model.eval.adapters.fingerprint import folder_fingerprint

Chat = Sequence[Mapping[str, str]]
"""Turns with 'role' and 'content'."""


class TextModel:
    """Any causal language model, read when it is first asked; nothing is fetched."""

    def __init__(self, folder: Path, *, device: str = "auto", what: str = "model") -> None:
        """Name it.

        Args:
            folder: of model and tokenizer.
            device: 'cuda', 'cpu'; 'auto': a GPU where there is one.
            what: what messages call it.

        Raises:
            UserError: it holds no model.
        """
        self.folder = folder
        self.fingerprint = folder_fingerprint(folder)
        self._device = device
        self._what = what
        self._loaded: tuple[Any, Any] | None = None

    def replies(self, chats: Sequence[Chat], max_new_tokens: Sequence[int]) -> list[str]:
        """Return the likeliest reply to each of a few chats, which are answered together.

        Args:
            chats: what is asked.
            max_new_tokens: longest reply to each.

        Raises:
            UserError: it is no text model.
        """
        return self._generated(chats, max_new_tokens, {"do_sample": False})

    def drawn_reply(self, chat: Chat, max_new_tokens: int, *, temperature: float, seed: int) -> str:
        """Return a reply drawn at a temperature: the same for the same seed, whatever came before.

        Raises:
            UserError: it is no text model.
        """
        import torch

        self._load()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            how = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
            return self._generated([chat], [max_new_tokens], how)[0]

    def log_probs(self, chat: Chat, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Return how likely a reply begins with each text.

        Args:
            chat: what is asked.
            texts: each is tokenised by itself.

        Returns:
            log_prob, num_tokens: the sum over the text's tokens, natural logarithm; and how many
            they are.

        Raises:
            UserError: it is no text model, or a text has no token.
        """
        import torch

        model, tokenizer = self._load()
        asked = self._inputs([chat])["input_ids"].to(model.device)
        found = []
        for text in texts:
            said = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
            num = said.shape[1]
            if not num:
                raise UserError(f"{self._what} {str(self.folder)!r}: {text!r} has no token.")
            said = said.to(model.device)
            with torch.no_grad():
                logits_BLV = model(torch.cat([asked, said], dim=1)).logits[:, -num - 1 : -1]
            log_BLV = torch.log_softmax(logits_BLV.float(), dim=-1)
            found.append((float(log_BLV.gather(2, said[..., None]).sum()), num))
        return found

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            self._loaded = _load(self.folder, self._device, self._what)
        return self._loaded

    def _inputs(self, chats: Sequence[Chat]) -> Any:
        _, tokenizer = self._load()
        texts = [_chat_text(tokenizer, chat) for chat in chats]
        is_plain = tokenizer.chat_template is None
        return tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=is_plain)

    def _generated(
        self, chats: Sequence[Chat], max_new_tokens: Sequence[int], how: Mapping[str, Any]
    ) -> list[str]:
        import torch

        model, tokenizer = self._load()
        inputs = self._inputs(chats).to(model.device)
        with torch.no_grad():
            tokens_BL = model.generate(
                **inputs,
                max_new_tokens=max(max_new_tokens),
                pad_token_id=tokenizer.pad_token_id,
                **how,
            )
        start = inputs["input_ids"].shape[1]
        return [
            # Each as if it had been asked alone.
            tokenizer.decode(tokens[start : start + longest], skip_special_tokens=True)
            for tokens, longest in zip(tokens_BL, max_new_tokens, strict=True)
        ]


def _load(folder: Path, device: str, what: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{what} {str(folder)!r}: no text model of transformers: {error}"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.to(device)
    return model.eval(), tokenizer


def _chat_text(tokenizer: Any, chat: Chat) -> str:
    if tokenizer.chat_template is None:
        return "\n\n".join(turn["content"] for turn in chat) + "\n"
    text: str = tokenizer.apply_chat_template(
        list(chat), tokenize=False, add_generation_prompt=True
    )
    return text
