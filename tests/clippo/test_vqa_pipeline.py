"""The visual-question-answering pipeline on a saved folder."""

import pytest
import torch
from PIL import Image
from transformers import pipeline

import clippo

TASK = "clippo-visual-question-answering"
ANSWERS = {0: "yes", 1: "no", 2: "red", 3: "blue"}
QUESTIONS = ["what colour is it?", "is it red?"]


@pytest.fixture(scope="module", params=["single_label_classification", "multi_label_classification"])
def folder(save_tiny, request):
    return save_tiny(
        clippo.ClippoForVisualQuestionAnswering, id2label=ANSWERS, problem_type=request.param, initializer_range=1.0
    )


def expected(folder, images, questions):
    model = clippo.ClippoForVisualQuestionAnswering.from_pretrained(folder).eval()
    inputs = clippo.ClippoProcessor.from_pretrained(folder)(images=images, questions=questions, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
    several = model.config.problem_type == "multi_label_classification"
    scores = logits.sigmoid() if several else logits.softmax(-1)
    assert scores.std(-1).min() > 1e-3
    return [dict(zip(ANSWERS.values(), row, strict=True)) for row in scores.tolist()]


def expected_of(ask, image, question):
    with torch.no_grad():
        inputs = ask.processor(images=image, questions=question, return_tensors="pt")
        scores = ask.model(**inputs).logits[0].softmax(-1)
    return dict(zip(ANSWERS.values(), scores.tolist(), strict=True))


def check(answers, scores):
    assert [a["score"] for a in answers] == sorted((a["score"] for a in answers), reverse=True)
    assert {a["answer"]: a["score"] for a in answers} == pytest.approx(scores, abs=1e-5)


def test_scores_are_those_of_the_model_however_it_is_asked(folder, photos):
    ask = pipeline(TASK, folder)
    assert type(ask.model) is clippo.ClippoForVisualQuestionAnswering
    both = expected(folder, photos[:2], QUESTIONS)
    same = expected(folder, photos[0], QUESTIONS)
    check(ask(image=photos[0], question=QUESTIONS[0]), both[0])
    check(ask({"image": photos[0], "question": QUESTIONS[0]}), both[0])
    for options in ({}, {"batch_size": 2}):
        pairs = [{"image": i, "question": q} for i, q in zip(photos, QUESTIONS, strict=False)]
        for answers in (ask(pairs, **options), ask(photos[:2], QUESTIONS, **options)):
            assert len(answers) == 2
            for answer, scores in zip(answers, both, strict=True):
                check(answer, scores)
        for answer, scores in zip(ask(photos[0], QUESTIONS, **options), same, strict=True):
            check(answer, scores)
    (best,) = ask(photos[0], QUESTIONS[0], top_k=1)
    assert best["answer"] == max(both[0], key=both[0].get)
    assert len(ask(photos[0], QUESTIONS[0], top_k=99)) == 4
    assert [len(a) for a in ask(photos, "is it red?", top_k=2)] == [2, 2, 2]


def test_files_and_the_folder_it_saves(folder, photos, tmp_path):
    photos[0].save(tmp_path / "photo.png")
    ask = pipeline(TASK, folder)
    answer = ask(str(tmp_path / "photo.png"), QUESTIONS[0])
    check(answer, expected(folder, photos[0], QUESTIONS[0])[0])
    ask.save_pretrained(tmp_path / "saved")
    assert pipeline(TASK, str(tmp_path / "saved"))(photos[0], QUESTIONS[0]) == answer
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        pipeline("visual-question-answering", str(tmp_path / "saved"))


def test_transparent_images_are_white_by_path_too(folder, tmp_path):
    image = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    image.save(tmp_path / "clear.png")
    ask = pipeline(TASK, folder)
    answer = ask(str(tmp_path / "clear.png"), "is it red?")
    assert answer == ask(image, "is it red?") == ask(Image.new("RGB", (40, 30), "white"), "is it red?")
    assert answer != ask(Image.new("RGB", (40, 30), "black"), "is it red?")


def test_scores_that_are_not_finite_are_an_error(folder, photos):
    ask = pipeline(TASK, folder)
    torch.nn.init.constant_(ask.model.classifier.bias, float("nan"))
    with pytest.raises(ValueError, match="scores of the answers are not finite"):
        ask(photos[0], "is it red?")


def test_what_cannot_be_answered_is_said(folder, photos):
    ask = pipeline(TASK, folder)
    with pytest.raises(ValueError, match="A question needs an image"):
        ask(question="what?")
    with pytest.raises(ValueError, match="has no image"):
        ask({"question": "what?"})
    with pytest.raises(ValueError, match="has no question"):
        ask([{"image": photos[0]}])
    with pytest.raises(ValueError, match="has no question;"):
        ask(photos[0])
    with pytest.raises(ValueError, match=r"The question \['a\?', 'b\?'\] is not a string"):
        ask({"image": photos[0], "question": ["a?", "b?"]})
    with pytest.raises(ValueError, match="is not a string; give one input"):
        ask(photos[:2], [["a?", "b?"], ["c?"]])
    with pytest.raises(ValueError, match="question=5 is neither"):
        ask(photos[0], 5)
    with pytest.raises(ValueError, match="An input has 2 images"):
        ask({"image": photos[:2], "question": "what?"})
    with pytest.raises(ValueError, match="3 images and 2 questions do not pair up"):
        ask(photos, QUESTIONS)
    with pytest.raises(ValueError, match="top_k=0"):
        ask(photos[0], "what?", top_k=0)
    with pytest.raises(TypeError, match="no option 'topk'"):
        ask(photos[0], "what?", topk=3)


def test_two_canvases_and_an_image_that_is_read_once(save_tiny, photos, tmp_path):
    fields = dict(id2label=ANSWERS, initializer_range=1.0, num_fusion_layers=1, skip_blank_patches=True)
    folder = save_tiny(clippo.ClippoForVisualQuestionAnswering, **fields)
    clippo.ClippoProcessor.from_pretrained(folder, question_layout="two_canvas").save_pretrained(tmp_path)
    clippo.ClippoForVisualQuestionAnswering.from_pretrained(folder).save_pretrained(tmp_path)
    ask, read = pipeline(TASK, str(tmp_path)), []
    get_grid_features = ask.model.get_grid_features
    ask.model.get_grid_features = lambda pixels: read.append(len(pixels)) or get_grid_features(pixels)
    images, questions = [photos[i] for i in (0, 0, 1, 1, 0)], ["a?", "is it red?", "a?", "b?", "a?"]
    scores = expected(tmp_path, images, questions)
    for batch_size, parts in ((1, [1, 1, 1]), (2, [1, 1, 1]), (5, [3])):
        read.clear()
        for answer, score in zip(ask(images, questions, batch_size=batch_size), scores, strict=True):
            check(answer, score)
        assert read == parts
    read.clear()
    ask(photos[0], ["a?", "b?", "c?"])
    assert read == [1]
    with torch.no_grad():
        ask.model.vision_model.embeddings.position_embedding.add_(1)  # the grid of the last call is not used again
    check(ask(photos[0], "c?"), expected_of(ask, photos[0], "c?"))
