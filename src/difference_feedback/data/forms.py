"""The forms of rows that are known: which columns tell a form, and where it has the question, the answer, the images.

A new form is one more entry of `FORMS`. The order matters: the first one that fits is taken. Names of columns are
compared without capitals, blanks, dashes and underscores.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from difference_feedback.runs.sections import DataField

VISION_ONLY = "Answer the question in the image."
"""What is asked where the picture holds the whole question. (MathVerse's Vision-Only rows)"""
FILES = ("file_name", "file", "path", "file_path", "url")
"""Columns that hold an image or a video, as the end of the name tells, or something else."""
_IMAGES = (
    "decoded_image",
    *("image", "images", "image_*", "image*", "image_path", "image_paths", "image_file", "image_files"),
    *("image_name", "image_file_name", "image_bytes", "image_base64", "image_url", "image_urls"),
    *("img", "imgs", "img_*", "img*", "img_path", "img_paths", "img_file", "img_name", "img_url"),
    *("picture", "pictures", "picture_*", "picture*", "photo", "photos", "pic", "jpg", "jpeg", "png", "webp"),
    *FILES,
)
IDS = ("id", "qid", "pid", "index", "question_id", "sample_index")
_DEFAULTS: Mapping[DataField, tuple[str, ...]] = {
    "id": IDS,
    "question": ("question",),
    "answer": ("answer",),
    "options": ("options", "choices", "candidates", "option"),
    "image": _IMAGES,
    "video": (
        *("video", "videos", "video_path", "video_paths", "video_file", "video_name", "video_url", "mp4", "clip"),
        *("frames", "frame_paths", "video_frames", *FILES),
    ),
    "system": ("system",),
}


@dataclass(frozen=True)
class RowForm:
    """`columns` names for each field the columns that may hold it. The first that a row has is taken."""

    name: str
    about: str
    needs: tuple[str, ...]
    """A file has the form if a clear majority of its first rows has all of these columns, and something in them."""
    columns: Mapping[DataField, tuple[str, ...]] = field(default_factory=dict)
    may_be_empty: tuple[str, ...] = ()
    """Those of `needs` that many rows leave empty."""
    lacks: tuple[str, ...] = ()
    """Columns that no row of the form has."""
    index_base: int | None = None
    """The number of the first option, where answers are indices."""
    options_in_question: bool = False
    picture_asks: bool = False
    """An empty question means that the image holds it."""
    lists_spellings: bool = False
    """An answer that is a list has several spellings of one answer, the best one first."""
    images_by_id: bool = False
    """The image of a row may be the id of an earlier row with the same one."""

    def candidates(self, name: DataField) -> tuple[str, ...]:
        """The columns that may hold a field."""
        return self.columns.get(name, _DEFAULTS.get(name, ()))


FORMS = (
    RowForm(
        "mathvista",
        "AI4Math/MathVista",
        ("pid", "question", "choices", "question_type"),
        may_be_empty=("choices",),
    ),
    RowForm(
        "mathverse",
        "AI4Math/MathVerse; the picture asks where the question is empty",
        ("problem_version", "question", "question_type"),
        {"id": ("sample_index",)},
        may_be_empty=("question",),
        options_in_question=True,
        picture_asks=True,
    ),
    RowForm(
        "mmmu",
        "MMMU/MMMU, lmms-lab/MMMU; options as a text of a list, images as options",
        ("question", "options", "image_1"),
        {"image": ("image_*",)},
        may_be_empty=("options",),
        lists_spellings=True,
    ),
    RowForm(
        "mmmu-pro",
        "MMMU/MMMU_Pro, vision; the image holds the question",
        ("id", "image", "options", "answer", "subject"),
        lacks=("question", "problem", "problem_text", "prompt", "query", "messages", "conversations"),
        picture_asks=True,
    ),
    RowForm(
        "mmstar",
        "Lin-Chen/MMStar; the options stand in the question",
        ("index", "question", "answer", "l2_category"),
        options_in_question=True,
    ),
    RowForm(
        "scienceqa",
        "derek-thomas/ScienceQA, lmms-lab/ScienceQA; answers count from 0, the hint goes first",
        ("question", "choices", "answer", "hint"),
        {"context": ("hint",)},
        may_be_empty=("hint",),
        index_base=0,
    ),
    RowForm(
        "vlmevalkit",
        "VLMEvalKit's TSV files; images in base64, options in columns A, B, C, ...",
        ("question", "A", "B", "answer"),
        {"context": ("hint",)},
        may_be_empty=("A", "B"),
        images_by_id=True,
    ),
    RowForm(
        "mathvision",
        "MathLLMs/MathVision",
        ("question", "options", "answer", "level", "subject"),
        may_be_empty=("options",),
    ),
    RowForm(
        "preference",
        "MMPR and other pairs; the accepted text is a reference, its final answer the answer",
        ("chosen", "rejected"),
        {
            "question": ("question", "query"),
            "messages": ("prompt", "messages", "chosen"),
            "reference": ("chosen",),
            "answer": ("answer", "solution"),
        },
    ),
    RowForm(
        "verl",
        "verl's parquet files and MMPR-Tiny",
        ("prompt", "reward_model.ground_truth"),
        {"question": (), "messages": ("prompt",), "answer": ("reward_model.ground_truth",)},
    ),
    RowForm(
        "ms-swift",
        "ms-swift; without a solution, the last turn is the answer",
        ("messages",),
        {"question": (), "messages": ("messages",), "answer": ("solution", "answer", "ground_truth")},
    ),
    RowForm(
        "conversations",
        "InternVL, LLaVA, VLM-R1: from and value; the last turn is the answer",
        ("conversations",),
        {
            "question": (),
            "messages": ("conversations",),
            "answer": ("solution", "answer", "ground_truth"),
        },
    ),
    RowForm(
        "geometry3k",
        "Geometry3K with choices; hiyouga/geometry3k is easyr1",
        ("problem_text", "choices", "answer"),
        {"question": ("problem_text",), "options": ("choices",), "image": (*_IMAGES, "diagram", "img_diagram")},
    ),
    RowForm(
        "easyr1",
        "EasyR1: hiyouga/geometry3k, PAPO's ViRL39K",
        ("problem", "answer"),
        {"question": ("problem",), "answer": ("answer",)},
    ),
    RowForm(
        "clevr",
        "R1-V: leonardPKU/clevr_cogen_a_train, GEOQA_R1V",
        ("problem", "solution"),
        {"question": ("problem",), "answer": ("solution",)},
    ),
    RowForm("virl39k", "TIGER-Lab/ViRL39K", ("qid", "question", "answer"), {"id": ("qid",)}),
    RowForm("mmk12", "FanqingM/MMK12", ("question", "answer", "subject", "image"), {"id": ("id",)}),
    RowForm(
        "plain",
        "question, answer and image, or columns that data.columns names",
        (),
        {
            "question": ("question", "problem", "prompt", "query"),
            "messages": ("messages", "prompt", "conversations"),
            "answer": ("answer", "solution", "ground_truth", "label", "response"),
        },
    ),
)
NAMED_FORMS = {
    "ai2d": RowForm(
        "ai2d",
        "lmms-lab/ai2d; recognised if most answers are numbers of options, counted from 0",
        ("question", "answer"),
        index_base=0,
    )
}
NAMED_FORMS |= {form.name: form for form in FORMS}
NAMED_FORMS["mmpr-tiny"] = NAMED_FORMS["verl"]
