"""Frames of a video: a film that PyAV reads, or an animation (GIF, WebP, APNG) that Pillow reads."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
from PIL import Image

from difference_feedback.data.image_files import file_in_memory
from difference_feedback.errors import ConfigError, DataError

VideoSource: TypeAlias = "Path | bytes | pa.Buffer"


def spread(count: int, wanted: int) -> list[int]:
    """`wanted` of `count` places, evenly spread from the first to the last; all of them where there are not more."""
    if count <= wanted:
        return list(range(count))
    if wanted == 1:
        return [count // 2]
    return [round(i * (count - 1) / (wanted - 1)) for i in range(wanted)]


def count_frames(source: VideoSource) -> int:
    """The number of frames of a video. Its first one is decoded, to know that the file can be used.

    Raises `DataError` for a file that is no video, and `ConfigError` where PyAV is not installed.
    """
    if (animation := _animation(source)) is not None:
        with animation:
            return int(getattr(animation, "n_frames", 1))
    with _film(source) as (container, stream):
        count = int(stream.frames)
        if count <= 0:  # the container does not say
            count = sum(1 for packet in container.demux(stream) if packet.size)
        if count == 0:
            raise DataError("the video has no frames: encode it again.")
        return count


def frame_of(source: VideoSource, index: int) -> Image.Image:
    """One frame of a video, as its player turns it. Raises as `count_frames`."""
    if (animation := _animation(source)) is not None:
        with animation:
            animation.seek(index)
            return animation.convert("RGBA")
    with _film(source) as (container, stream):
        frame = _decoded(container, stream, index)
        if frame is None:
            raise DataError(f"frame {index} of the video cannot be decoded: encode it again.")
        image: Image.Image = frame.to_image()
        turn = getattr(frame, "rotation", 0) % 360
        return image.rotate(turn, expand=True) if turn else image


def _decoded(container: Any, stream: Any, index: int) -> Any:
    """The frame of this index, by its time at the average rate; the last one before it where there is none."""
    rate, base, start = stream.average_rate, stream.time_base, stream.start_time or 0
    if not rate or not base:
        rate = None
    elif index:
        container.seek(start + int(index / rate / base), stream=stream)
    last = None
    for nth, frame in enumerate(container.decode(stream)):
        last = frame
        if rate is None or frame.pts is None:
            if nth >= index:
                break
        elif (frame.pts - start) * base * rate > index - 0.5:
            break
    return last


def _animation(source: VideoSource) -> Any:
    """The animation that Pillow opens; None for other files."""
    try:
        return Image.open(source if isinstance(source, Path) else file_in_memory(source))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


@contextmanager
def _film(source: VideoSource) -> Iterator[tuple[Any, Any]]:
    try:
        import av
    except ImportError:
        raise ConfigError("videos need PyAV: pip install 'difference-feedback[video]'.") from None
    try:
        with av.open(str(source) if isinstance(source, Path) else file_in_memory(source)) as container:
            if not container.streams.video:
                raise DataError("the file has no video in it: give a film, an animation, or a list of frames.")
            stream = container.streams.video[0]
            yield container, stream
    except (av.FFmpegError, ValueError, IndexError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"the video cannot be read ({error}): encode it again.") from None
    except OSError:
        raise DataError("there is no such file that can be read: give its path.") from None
