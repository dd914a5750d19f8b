"""The task that the words of a conversation give it."""

import pytest

from vxp_data.core.tasks import TaskGuess, classify_conversation, classify_turn
from vxp_data.records import Task

LLAVA_VIDEO_FRAME = (
    "<image>\nThe video lasts for 17.03 seconds, and 16 frames are uniformly sampled from it. "
    "Please answer the following questions related to this video.\n"
)

LLAVA_VIDEO_CAPTION = (
    "Please provide a detailed description of the video, focusing on the main subjects, their "
    "actions, and the background scenes."
)

CAPTION_PROMPTS = [
    LLAVA_VIDEO_CAPTION,
    LLAVA_VIDEO_FRAME + "Please describe the video in detail.",
    "Elaborate on the visual and narrative elements of the video in detail.",
    "Can you describe what is happening in the video in detail?",
    "What is happening in this video?",
    "What's happening in the scene?",
    "In this video, what is happening?",
    "what happens in the video",
    "What is the video about?",
    "Write a detailed caption",
    "Describe this video.",
    "Describe in detail what happens in the video.",
    "Describe the main events of the video in chronological order.",
    "How would you describe the video?",
    "Watch the clip, then describe it.",
    "Your task is to describe the video.",
    "Could you tell me what happens in the clip?",
    # Video-ChatGPT, brief and long
    "Summarize the visual content of the following video.",
    "Summarise what happens in the video.",
    "Give an elaborate explanation of the video you see",
    "Explain the various aspects of the video before you",
    "Illustrate the video through a descriptive explanation",
    "Examine the video closely and share its details",
    "Walk through the important details of the video",
    "Break down the elements of the video in a detailed manner",
    "Relay a brief, clear account of the video shown.",
    "Create a compact narrative representing the video presented.",
    "Present a compact description of the clip\u2019s key features.",
    # LLaVA-OneVision's images
    "Please generate detailed captions of this image. Please describe this image in detail.",
    "Provide a one-sentence caption for the provided image.",
    "What do you see happening in this image?",
    "What do you think is going on in this snapshot?",
    "Can you elaborate on the elements of the picture provided?",
]

OPEN_ENDED_PROMPTS = [
    "Describe what the man in red does after he sits",
    "Describe the man in the video.",
    "Describe the setting of the video.",
    "Describe the scene where the boy falls.",
    "Describe the first scene of the video.",
    "Summarize the man's actions.",
    "Summarize the man\u2019s actions.",
    "Provide a description of the woman's clothing.",
    "Tell me about the dog in the video.",
    "Can you describe what the chef does with the onion?",
    "How would you describe the man's mood?",
    "Give me a step-by-step description of how to make the dish.",
    "What is the main subject of the video?",
    "What happens after the boy falls?",
    "What is happening in the kitchen?",
    "What is the letter about?",
    "What is the caption at the top of the screen?",
    "Which description fits the video?",
    "Describe the video. What colour is the car?",
    "What is happening in the video? Answer the question using a single word or phrase.",
    "how many children are in the video",  # NExT-QA, open-ended half
    "What does A. Smith give to B. Jones?",
    "Where do the options differ?\nB. late\nA. early",  # out of order
    LLAVA_VIDEO_FRAME + "Does the camera move?",
]

MULTIPLE_CHOICE_PROMPTS = [
    "Which fits?\nA. a dog\nB. a cat",
    "Which fits?\n(A) a dog\n(B) a cat",
    "Which fits?\nA) a dog\nB) a cat",
    "Which fits?\nA: a dog\nB: a cat",
    "Which fits?\nA.dog\nB.cat\nDescribe the video",
    "Which fits?\na. a dog\nb. a cat",
    "Why does he run?\n- A) to win\n- B) to flee",  # CinePile
    "Is it day? (A) yes (B) no",
    "Is it day? Options: A. yes B. no",
    "Which fits? Answer with the option's letter from the given choices directly.",
    "Which fits? Please respond with only the letter of the correct answer.",
    "Which fits? Give the letter of the best option.",
]


@pytest.mark.parametrize("prompt", CAPTION_PROMPTS)
def test_a_prompt_about_the_whole_video_is_a_caption(prompt):
    assert classify_turn(f"<image>\n{prompt}", "A man sits down.") is Task.CAPTION


@pytest.mark.parametrize("prompt", OPEN_ENDED_PROMPTS)
def test_a_prompt_about_a_part_is_open_ended(prompt):
    assert classify_turn(f"{prompt}\n<video>", "A man.") is Task.OPEN_ENDED


@pytest.mark.parametrize("prompt", MULTIPLE_CHOICE_PROMPTS)
def test_options_or_a_request_for_a_letter_are_multiple_choice(prompt):
    assert classify_turn(f"<image>\n{prompt}", "a dog") is Task.MULTIPLE_CHOICE


def test_a_letter_as_answer_counts_only_where_the_question_asks_to_choose():
    assert [
        classify_turn("Select what fits best.", "(B)."),
        classify_turn("Select what fits best.", "Both of them."),
        classify_turn("Which grade does she get?", "B"),
    ] == [Task.MULTIPLE_CHOICE, Task.OPEN_ENDED, Task.OPEN_ENDED]


def test_an_answer_without_a_question_is_a_caption():
    assert [
        classify_turn("<image>\n", "A man sits down."),
        classify_turn("<image>", " "),
    ] == [Task.CAPTION, Task.OPEN_ENDED]


CAPTION = ("Describe the video.", "A man.")
CHOICE = ("Day?\nA. yes\nB. no", "A")
OPEN = ("Who sits?", "A man.")


@pytest.mark.parametrize(
    ("exchanges", "task", "mixed"),
    [
        ([], Task.OPEN_ENDED, False),
        ([CAPTION], Task.CAPTION, False),
        ([CAPTION, OPEN, OPEN], Task.OPEN_ENDED, True),
        ([OPEN, CHOICE, CHOICE, OPEN], Task.OPEN_ENDED, True),
        ([CAPTION, CHOICE, OPEN, OPEN, CHOICE], Task.MULTIPLE_CHOICE, True),
        ([OPEN, OPEN], Task.OPEN_ENDED, False),
    ],
)
def test_the_kind_of_most_turns_wins_and_of_ties_the_earliest(exchanges, task, mixed):
    assert classify_conversation(exchanges) == TaskGuess(task=task, mixed=mixed)
