"""Judges: a server of chat completions that is really there, a folder's model, and what is kept."""

import json
import socket
import threading

import pytest

from support.chat_server import Server, chat_server, said
from vxp_data.errors import UserError
from vxp_model.eval.benchmarks.base import JudgePrompt
from vxp_model.eval.chat_server import AnswerError
from vxp_model.eval.judges import FolderJudge, UrlJudge, judge_all, kept_judgments, open_judge

SECRET = "sk-never-shown"


@pytest.fixture
def server():
    with chat_server() as own:
        yield own


@pytest.fixture
def waits():
    return []


@pytest.fixture
def judge(server, waits):
    return UrlJudge(server.url, "m", wait=waits.append, num_parallel=1)


def prompts(*texts):
    return {f"q{number}": JudgePrompt(text=text) for number, text in enumerate(texts)}


def test_a_server_is_asked_for_the_likeliest_reply(server):
    judge = open_judge(f"{server.url}#some-model")
    answers = judge.judge([JudgePrompt(text="Rate: 3", system="You rate.", max_new_tokens=7)])
    assert answers == ["3"]
    ((path, headers, body),) = server.requests
    assert path == "/v1/chat/completions"
    assert body == {
        "model": "some-model",
        "messages": [
            {"role": "system", "content": "You rate."},
            {"role": "user", "content": "Rate: 3"},
        ],
        "temperature": 0,
        "max_tokens": 7,
    }
    assert "Authorization" not in headers


def test_judgments_come_in_the_order_of_the_prompts(server):
    judge = UrlJudge(server.url, "m", num_parallel=4)
    texts = [f"say {number}" for number in range(20)]
    assert judge.judge([JudgePrompt(text=one) for one in texts]) == [str(n) for n in range(20)]


def test_the_key_is_read_from_the_variable_that_is_named_and_kept_nowhere(
    server, monkeypatch, tmp_path
):
    monkeypatch.setenv("MY_KEY", SECRET)
    judge = open_judge(f"{server.url}#m", key_variable="MY_KEY")
    judge_all(judge, prompts("say a"), tmp_path / "kept.jsonl")
    assert server.requests[0][1]["Authorization"] == f"Bearer {SECRET}"
    assert SECRET not in json.dumps(dict(judge.identity))
    assert SECRET not in (tmp_path / "kept.jsonl").read_text()
    server.failures = [(401, {}, b"who are you?")]
    with pytest.raises(UserError, match=r"it answers 401: who are you\?") as told:
        judge.judge([JudgePrompt(text="say b")])
    assert SECRET not in str(told.value)


@pytest.mark.parametrize("code", [429, 500, 502, 503])
def test_a_busy_server_is_asked_again_after_longer_and_longer(server, judge, waits, code):
    server.failures = [(code, {}, b"later")] * 3
    assert judge.judge([JudgePrompt(text="say a")]) == ["a"]
    assert waits == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("code", [500, 401])
def test_words_that_are_cut_off_are_told_as_far_as_they_came(judge, server, waits, code):
    answer = f"HTTP/1.1 {code} x\r\nContent-Length: 99\r\n\r\nhalf of".encode()

    def send(handler):
        handler.rfile.read(int(handler.headers["Content-Length"]))
        handler.wfile.write(answer)
        handler.close_connection = True

    server.server.RequestHandlerClass.do_POST = send
    with pytest.raises(UserError, match=f"it answers {code}: half of"):
        judge.judge([JudgePrompt(text="x")])
    assert len(waits) == (5 if code == 500 else 0)


def test_a_server_may_say_how_long_to_wait(server, judge, waits):
    server.failures = [(429, {"Retry-After": "7"}, b""), (429, {"Retry-After": "900"}, b"")]
    assert judge.judge([JudgePrompt(text="say a")]) == ["a"]
    assert waits == [7.0, 60.0]


def test_a_server_that_stays_busy_ends_the_command_with_its_words(server, judge, waits):
    server.failures = [(503, {}, b"no room")] * 6
    with pytest.raises(
        UserError, match="no answer after 6 tries; at last: it answers 503: no room"
    ):
        judge.judge([JudgePrompt(text="say a")])
    assert len(waits) == 5


@pytest.mark.usefixtures("server")
def test_a_server_that_is_not_there_is_named(waits):
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    judge = UrlJudge(f"http://127.0.0.1:{port}/v1", "m", wait=waits.append)
    with pytest.raises(
        UserError, match=r"judge http://127\..*refused.*Is the server running"
    ) as told:
        judge.judge([JudgePrompt(text="say a")])
    assert not isinstance(told.value, AnswerError)  # no other prompt will have an answer either


def test_a_silent_server_is_not_waited_for_without_end(server, waits):
    release = threading.Event()
    server.answer = lambda _: (release.wait(10), (200, {}, b""))[1]
    judge = UrlJudge(server.url, "m", wait=waits.append, num_tries=2, timeout_s=0.1)
    with pytest.raises(UserError, match="no answer after 2 tries; at last: timed out"):
        judge.judge([JudgePrompt(text="say a")])
    release.set()


@pytest.mark.parametrize(
    ("code", "body", "message"),
    [
        (404, b"no such model", "model m: it answers 404: no such model"),
        (400, b"bad", "it answers 400: bad"),
        (200, b"<html>hello</html>", "the answer is no chat completion: <html>hello"),
        (200, b'{"choices": []}', "no chat completion"),
    ],
)
def test_a_refusal_is_told_at_once(server, judge, waits, code, body, message):
    server.failures = [(code, {}, body)]
    with pytest.raises(UserError, match=message):
        judge.judge([JudgePrompt(text="say a")])
    assert waits == []


def test_a_redirection_is_not_followed_with_the_key(server, waits):
    other = Server()
    server.failures = [(302, {"Location": f"{other.url}/chat/completions"}, b"over there")]
    judge = UrlJudge(server.url, "m", key=SECRET, wait=waits.append)
    with pytest.raises(UserError, match="it answers 302"):
        judge.judge([JudgePrompt(text="say a")])
    other.close()
    assert other.requests == []


def test_what_was_judged_is_not_asked_again(server, judge, tmp_path):
    path = tmp_path / "kept.jsonl"
    asked = prompts("say a", "say b", "say c")
    assert judge_all(judge, asked, path) == {"q0": "a", "q1": "b", "q2": "c"}
    before = path.read_bytes()
    assert judge_all(judge, asked, path) == {"q0": "a", "q1": "b", "q2": "c"}
    assert len(server.requests) == 3
    assert path.read_bytes() == before
    rows = [json.loads(line) for line in before.splitlines()]
    assert [set(row) for row in rows] == [{"key", "question_id", "prompt", "judgment", "judge"}] * 3


def test_kept_judgments_are_those_of_the_same_prompt_whoever_made_them(server, judge, tmp_path):
    path = tmp_path / "kept.jsonl"
    judge_all(judge, prompts("say a", "say b"), path)
    assert kept_judgments(prompts("say a", "say other", "say new"), path) == {"q0": "a"}
    server.failures = [said("better")]
    judge_all(UrlJudge(server.url, "other"), prompts("say a"), path)
    assert kept_judgments(prompts("say a", "say b"), path) == {"q0": "better", "q1": "b"}
    assert kept_judgments(prompts("say a"), tmp_path / "none.jsonl") == {}


def test_another_reply_or_judge_is_asked_anew_and_the_last_line_is_what_counts(
    server, judge, tmp_path
):
    path = tmp_path / "kept.jsonl"
    judge_all(judge, prompts("say a"), path)
    assert judge_all(judge, prompts("say b"), path) == {"q0": "b"}
    judge_all(UrlJudge(server.url, "other"), prompts("say b"), path)
    assert len(server.requests) == 3
    assert judge_all(judge, prompts("say a"), path) == {"q0": "a"}
    assert len(server.requests) == 3
    assert json.loads(path.read_text().splitlines()[-1])["judgment"] == "a"


def test_judgments_survive_a_crash_and_a_line_that_it_cut_off(server, judge, tmp_path):
    path = tmp_path / "kept.jsonl"
    server.failures = [said("a"), said("b"), (404, {}, b"gone")]
    with pytest.raises(UserError, match="gone"):
        judge_all(judge, prompts("say a", "say b", "say c", "say d"), path, at_once=2)
    with path.open("a") as file:
        file.write('{"key": "half')
    found = judge_all(judge, prompts("say a", "say b", "say c", "say d"), path)
    assert found == {"q0": "a", "q1": "b", "q2": "c", "q3": "d"}
    assert len(server.requests) - 3 in (2, 3)  # the request beside the one that failed may be sent
    assert [json.loads(line)["judgment"] for line in path.read_text().splitlines()] == list("abcd")


@pytest.mark.parametrize(
    ("spec", "variable", "message"),
    [
        ("http://localhost:1/v1", None, "no model is named. Add its name after '#'"),
        ("http://localhost:1/v1#m", "NO_SUCH_VARIABLE", "NO_SUCH_VARIABLE is not set"),
        ("http://user:word@localhost:1/v1#m", None, "name an environment variable"),
        ("no/such/folder", None, "neither an address such as http"),
    ],
)
def test_what_is_no_judge_is_told(spec, variable, message):
    with pytest.raises(UserError, match=message) as told:
        open_judge(spec, key_variable=variable)
    assert "word" not in str(told.value).replace("password", "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("judge")
    vocabulary = {word: number for number, word in enumerate(["<pad>", "</s>", *"abcdefgh"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<pad>"
    )
    fast.chat_template = "{% for turn in messages %}{{ turn.content }} {% endfor %}"
    fast.save_pretrained(path)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, eos_token_id=None, pad_token_id=0,
        initializer_range=1.0,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(path)
    return path


def test_a_folders_model_says_the_same_alone_and_together(folder):
    judge = open_judge(str(folder))
    asked = [
        JudgePrompt(text="a b c d", max_new_tokens=5),
        JudgePrompt(text="e", system="f", max_new_tokens=3),
    ]
    together = judge.judge(asked)
    alone = [FolderJudge(folder, batch=1).judge([one])[0] for one in asked]
    assert together == alone
    assert together[0] != together[1]
    assert len(together[1].split()) <= 3 < len(together[0].split())


def test_a_folders_model_is_told_apart_by_its_files(folder, tmp_path):
    import shutil

    other = tmp_path / folder.name
    shutil.copytree(folder, other)
    assert open_judge(str(other)).identity == open_judge(str(folder)).identity
    weights = other / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))  # trained on, as large as before
    assert open_judge(str(other)).identity != open_judge(str(folder)).identity
    weights.write_bytes(kept)
    text = (other / "config.json").read_text()
    (other / "config.json").write_text(text.replace("silu", "relu"))  # of the same length
    assert open_judge(str(other)).identity != open_judge(str(folder)).identity


def test_a_folder_that_holds_no_text_model_is_told(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds no weights"):
        open_judge(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"none")
    with pytest.raises(UserError, match="no text model of transformers"):
        open_judge(str(tmp_path)).judge([JudgePrompt(text="a")])
