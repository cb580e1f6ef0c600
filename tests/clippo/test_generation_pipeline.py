"""The pipeline of generated text on a saved folder."""

import pytest
from transformers import pipeline

import clippo

TASK = "clippo-image-text-to-text"


@pytest.fixture(scope="module", params=["own canvas", "on the image"])
def folder(save_tiny, request):
    layout = {"min_rows": 1} if request.param == "on the image" else None
    folder = save_tiny(
        clippo.ClippoForConditionalGeneration, num_decoder_layers=2, decoder_max_length=16, skip_blank_patches=True
    )
    processor = clippo.ClippoProcessor.from_pretrained(folder)
    clippo.ClippoProcessor(processor.image_processor, processor.tokenizer, layout).save_pretrained(folder)
    return folder


def written(folder, images, text, **options):
    model = clippo.ClippoForConditionalGeneration.from_pretrained(folder)
    processor = clippo.ClippoProcessor.from_pretrained(folder)
    on_image = images is not None and getattr(processor, "question_layout", None)
    prompt = {"questions": text or ""} if on_image else {"text": text}
    inputs = processor(images=images, **prompt, return_tensors="pt")
    return processor.batch_decode(model.generate(**inputs, **{"max_new_tokens": 8} | options))


def test_texts_are_those_of_the_model_however_it_is_asked(folder, photos):
    write = pipeline(TASK, folder)
    assert type(write.model) is clippo.ClippoForConditionalGeneration
    prompts = ["caption en", "caption de"]
    (both,) = [written(folder, photos[:2], prompts)]
    assert len(set(both)) == 2
    one = [{"generated_text": both[0]}]
    assert write(photos[0], prompts[0], max_new_tokens=8) == one
    assert write({"image": photos[0], "text": prompts[0]}, max_new_tokens=8) == one
    expected = [[{"generated_text": text}] for text in both]
    for options in ({}, {"batch_size": 2}):
        assert write(photos[:2], prompts, max_new_tokens=8, **options) == expected
    (alone,) = written(folder, None, "hello")
    assert write(text="hello", max_new_tokens=8) == [{"generated_text": alone}]
    (unasked,) = written(folder, photos[0], None)
    assert write(photos[0], max_new_tokens=8) == [{"generated_text": unasked}]
    beams = write(photos[0], "caption en", num_beams=3, num_return_sequences=2, max_new_tokens=8)
    assert [entry["generated_text"] for entry in beams] == written(
        folder, photos[0], "caption en", num_beams=3, num_return_sequences=2
    )


def test_a_stream_gives_the_same_text_and_its_errors(folder, photos):
    write = pipeline(TASK, folder)
    whole = write(photos[0], "caption en", max_new_tokens=8)[0]["generated_text"]
    assert "".join(write.stream(photos[0], "caption en", max_new_tokens=8)) == whole
    with pytest.raises(ValueError, match="`streamer` cannot be used with beam search"):
        list(write.stream(photos[0], "caption en", num_beams=2))


def test_wrong_inputs_are_named(folder, photos):
    write = pipeline(TASK, folder)
    with pytest.raises(ValueError, match="neither an image nor a text"):
        write()
    with pytest.raises(ValueError, match="2 images and 3 texts do not pair up"):
        write(photos[:2], ["a", "b", "c"])
    with pytest.raises(TypeError, match="has no option 'max_tokens'; pass max_new_tokens"):
        write(photos[0], "a", max_tokens=3)
    with pytest.raises(ValueError, match="The text 7 is not a string"):
        write({"image": photos[0], "text": 7})


def test_the_folder_that_it_saves_works(folder, photos, tmp_path):
    write = pipeline(TASK, folder)
    write.save_pretrained(tmp_path)
    again = pipeline(TASK, str(tmp_path))
    assert again(photos[0], "caption en", max_new_tokens=8) == write(photos[0], "caption en", max_new_tokens=8)
