"""What page and server say to each other, as JSON with a `type`, and the bounds of what the server takes.

| from | type | what |
|---|---|---|
| page | `start` | number of the race, points of the drawing, systems |
| page | `stop` | end the race |
| server | `limits` | the bounds below, once |
| server | `data` | of the drawing: number of components, longest bars |
| server | `frame` | of one system: step, seconds, samples with their generators, masses, bars, components |
| server | `done` | every system has made its steps |
| server | `error` | what was wrong, in a sentence |

Coordinates are those of the drawing, a square from -1 to 1. All but `limits` have the number of their race.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from toposampler.errors import UserError

LEAST_POINTS, MOST_POINTS = 100, 5000
STEPS = 3000
"""generator steps of each system"""
MESSAGE_BYTES = 2**18
"""of a message from the page, at most: the largest drawing has some 100 thousand"""
System = Literal["wgan_gp", "dmgan_pl", "component_gan"]
SYSTEMS: tuple[str, ...] = ("wgan_gp", "dmgan_pl", "component_gan")
LIMITS = {"type": "limits", "least_points": LEAST_POINTS, "most_points": MOST_POINTS, "steps": STEPS}

Coordinate = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Start(_Message):
    """Begin a race, in place of the one that is on."""

    type: Literal["start"]
    race: int = Field(ge=0, lt=2**31)
    points: list[tuple[Coordinate, Coordinate]]
    systems: list[System] = Field(min_length=1, max_length=len(SYSTEMS))


class Stop(_Message):
    """End the race."""

    type: Literal["stop"]


_MESSAGE: TypeAdapter[Start | Stop] = TypeAdapter(Annotated[Start | Stop, Field(discriminator="type")])


def parse(text: str | bytes) -> Start | Stop:
    """The message that the JSON `text` holds. Raises UserError if it is none, or beyond the bounds."""
    if len(text) > MESSAGE_BYTES:
        raise UserError(f"a message has at most {MESSAGE_BYTES:,} bytes, and this one {len(text):,}")
    try:
        message = _MESSAGE.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"not a message of this page: {place}: {first['msg']}".replace(": :", ":")) from None
    if isinstance(message, Start):
        _check(message)
    return message


def _check(message: Start) -> None:
    n = len(message.points)
    if n == 0:
        raise UserError("Nothing is drawn yet: press and move in the square, or choose a preset.")
    if n < LEAST_POINTS:
        raise UserError(f"{n} points are drawn, and at least {LEAST_POINTS} are needed: draw more.")
    if n > MOST_POINTS:
        raise UserError(f"{n:,} points are drawn, and at most {MOST_POINTS:,} are trained on.")
    if len(set(message.systems)) < len(message.systems):
        raise UserError("each system races once")


def error(message: str, race: int | None) -> dict[str, Any]:
    """The message that something was wrong."""
    return {"type": "error", "race": race, "message": message}
