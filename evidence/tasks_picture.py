"""Draw docs/images/tasks.png: held-out images of each embedded task, as the model sees them."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from difference_feedback.world import TASKS, sample_problems

SCALE, WIDTH, COLUMNS, MARGIN, CAPTION = 2, 300, 4, 8, 46


def main() -> None:
    rows = [sample_problems("test", COLUMNS, seed=3, tasks=[name]) for name in TASKS]
    heights = [max(SCALE * p.images[0].height for p in row) + CAPTION + 2 * MARGIN for row in rows]
    sheet = Image.new("RGB", (COLUMNS * WIDTH, sum(heights)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for y, row in enumerate(rows):
        for x, problem in enumerate(row):
            image = problem.images[0]
            left, top = x * WIDTH + MARGIN, sum(heights[:y]) + MARGIN
            size = image.width * SCALE, image.height * SCALE
            sheet.paste(image.resize(size, Image.Resampling.NEAREST), (left, top))
            text = problem.question.replace(" , and", ",\nand").replace(" than", "\nthan").replace(" from", "\nfrom")
            draw.text((left, top + size[1] + 4), text, "black", font)
    sheet.quantize(128).save(Path(__file__).parents[1] / "docs" / "images" / "tasks.png", optimize=True)


if __name__ == "__main__":
    main()
