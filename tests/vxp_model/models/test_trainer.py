"""Hugging Face's own Trainer on our model: its accumulated steps are those of one large batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.later import LATER
from support.tiny_video_xl_pro import drawn_frames

if LATER:
    import torch
    from torch import Tensor
    from torch.nn import functional
    from transformers import Trainer, TrainingArguments

    from vxp_model.models.byte_tokenizer import byte_tokenizer
    from vxp_model.models.processor import VideoXLProProcessor
    from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
    from vxp_model.models.video_xl_pro_config import video_xl_pro_preset

pytestmark = pytest.mark.usefixtures("one_thread")

ANSWERS = ("No", "A rather long answer, longer than others", "Yes, it is.", "B")
PX = 56


@pytest.fixture(scope="module")
def processor() -> VideoXLProProcessor:
    return VideoXLProProcessor.for_model(video_xl_pro_preset("tiny"), byte_tokenizer())


@pytest.fixture(scope="module")
def rows() -> list[list[dict[str, Any]]]:
    """Conversations with answers of unequal length: text, image, two videos."""
    image = {"type": "image", "image": torch.from_numpy(drawn_frames(1, px=PX, seed=1))[0]}
    videos = [
        {"type": "video", "video": torch.from_numpy(drawn_frames(count, px=PX, seed=count))}
        for count in (5, 9)
    ]
    shown: list[list[dict[str, Any]]] = [[], [image], [videos[0]], [videos[1]]]
    return [
        [
            {"role": "user", "content": [*visuals, {"type": "text", "text": "What is it?"}]},
            {"role": "assistant", "content": answer},
        ]
        for visuals, answer in zip(shown, ANSWERS, strict=True)
    ]


def build() -> VideoXLProForConditionalGeneration:
    config = video_xl_pro_preset("tiny")
    config.selector_drop_max = 0.0
    config.selector_drop_min = 0.0
    torch.manual_seed(0)
    return VideoXLProForConditionalGeneration(config)


def trained(
    rows: list[list[dict[str, Any]]],
    processor: VideoXLProProcessor,
    out: Path,
    *,
    micro: int,
    accumulation: int,
) -> tuple[dict[str, Tensor], list[float]]:
    model = build()
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(out),
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=accumulation,
            max_steps=3,
            learning_rate=1e-2,
            optim="sgd",
            max_grad_norm=0.5,
            lr_scheduler_type="constant",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            remove_unused_columns=False,
            use_cpu=True,
            seed=1,
            disable_tqdm=True,
        ),
        train_dataset=rows,
        data_collator=processor,
    )
    assert trainer.model_accepts_loss_kwargs
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return model.state_dict(), losses


def test_accumulated_steps_leave_the_weights_of_one_large_batch(
    rows: list[list[dict[str, Any]]], processor: VideoXLProProcessor, tmp_path: Path
) -> None:
    whole, whole_losses = trained(rows, processor, tmp_path / "a", micro=4, accumulation=1)
    parts, part_losses = trained(rows, processor, tmp_path / "b", micro=2, accumulation=2)
    single, _ = trained(rows, processor, tmp_path / "c", micro=1, accumulation=4)
    first = build().state_dict()
    moved = max(float((whole[name] - first[name]).abs().max()) for name in first)
    assert moved > 1e-3
    for other in (parts, single):
        for name in first:
            torch.testing.assert_close(other[name], whole[name], rtol=0, atol=1e-6)
    assert part_losses == pytest.approx(whole_losses, rel=1e-4)


def test_the_losses_of_a_steps_parts_add_up_to_its_mean(
    rows: list[list[dict[str, Any]]], processor: VideoXLProProcessor
) -> None:
    model = build().eval()
    with torch.no_grad():
        whole = model(**processor(rows))
        count = int(whole.num_labels_B.sum())
        parts = [
            model(**processor(rows[start : start + 2]), num_items_in_batch=torch.tensor(count)).loss
            for start in (0, 2)
        ]
        by_hand = functional.cross_entropy(whole.logits, whole.label_ids)
    torch.testing.assert_close(whole.loss, by_hand)
    torch.testing.assert_close(sum(parts), whole.loss)


def test_text_alone_has_the_loss_that_transformers_gives_with_the_same_divisor(
    rows: list[list[dict[str, Any]]], processor: VideoXLProProcessor
) -> None:
    model = build().eval()
    batch = processor(rows[0])
    given = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    for count in (None, 7):
        with torch.no_grad():
            ours = model(**batch, num_items_in_batch=count).loss
            theirs = model.language_model(**given, num_items_in_batch=count).loss
        torch.testing.assert_close(ours, theirs)


def test_trainers_evaluation_gives_the_loss(
    rows: list[list[dict[str, Any]]], processor: VideoXLProProcessor, tmp_path: Path
) -> None:
    model = build()
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(tmp_path),
            per_device_eval_batch_size=4,
            report_to="none",
            remove_unused_columns=False,
            use_cpu=True,
            disable_tqdm=True,
        ),
        eval_dataset=rows,
        data_collator=processor,
    )
    told = trainer.evaluate()["eval_loss"]
    logits, label_ids, num_labels_B = trainer.predict(rows).predictions
    with torch.no_grad():
        output = model.eval()(**processor(rows))
    assert told == pytest.approx(float(output.loss), rel=1e-5)
    torch.testing.assert_close(torch.from_numpy(logits), output.logits)
    assert label_ids.tolist() == output.label_ids.tolist()
    assert num_labels_B.tolist() == output.num_labels_B.tolist()
    trainer.save_model(str(tmp_path / "saved"))
    again = VideoXLProForConditionalGeneration.from_pretrained(tmp_path / "saved").eval()
    with torch.no_grad():
        assert torch.equal(again(**processor(rows)).loss, output.loss)
