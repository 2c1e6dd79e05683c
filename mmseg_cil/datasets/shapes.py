"""Drawing of the embedded dataset: textured shapes on textured backgrounds.

The drawing uses NumPy alone, and ``RandomState``, whose streams NumPy promises never
to change: the same seed gives the same pictures everywhere.
"""

from __future__ import annotations

import colorsys

import numpy as np

# The shapes differ in thickness and curvature everywhere along their edge, so that
# a small network learns them from the neighbourhood of a pixel.
SHAPES = ('disc', 'bar', 'cross', 'ring')
TEXTURES = ('stripes', 'checks', 'dots', 'grain', 'mesh')

IGNORE = 255
# Half the width of the void border in pixels: 1 to 2 pixels become void.
_BORDER = 0.8
# Sizes below are fractions of the picture's side.
_RADIUS = (0.17, 0.27)
_CENTRE = (0.14, 0.86)
_PERIOD = (0.07, 0.09)
_OBJECTS = (3, 6)
# Shapes are turned by up to this angle, in radians, either way; textures by any angle.
_TURN = 0.4
_NOISE = 6.0
# No shape extends farther from its centre, in radii, void border included.
_REACH = 1.4


def class_parts(class_id: int) -> tuple[str, str]:
    """Return shape and texture of a foreground class.

    As 4 and 5 have no common divisor, the 20 classes are all pairs, and any five
    classes in a row have all shapes and all textures: a step of five classes adds
    new pairs of shape and texture, but no new shape or texture.

    Args:
        class_id: 1..20.
    """
    number = class_id - 1
    return SHAPES[number % len(SHAPES)], TEXTURES[number % len(TEXTURES)]


NUM_CLASSES = len(SHAPES) * len(TEXTURES) + 1
CLASSES = ('background', *('_'.join(class_parts(class_id)) for class_id in range(1, NUM_CLASSES)))


def draw_sample(seed: int, split: int, index: int, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Draw one picture and its mask.

    Three to five shapes lie over each other; the uppermost is of class
    ``index % 20 + 1``, so that twenty pictures in a row show every class.

    Args:
        seed: Seed of the dataset, 0..2**32-1.
        split: A number that tells training from validation.
        index: Number of the picture.
        size: Side of the square picture in pixels.

    Returns:
        uint8 (size, size, 3), RGB, and uint8 (size, size), class ids with 255
        (void) along the borders of the shapes.
    """
    random = np.random.RandomState([seed, split, index])
    picture = draw_background(random, size)
    mask = np.zeros((size, size), np.uint8)
    count = random.randint(*_OBJECTS)
    classes = 1 + random.randint(NUM_CLASSES - 1, size=count)
    classes[-1] = index % (NUM_CLASSES - 1) + 1
    for class_id in classes:
        draw_object(random, picture, mask, class_parts(int(class_id)), int(class_id))
    return finished(random, picture), mask


def finished(random: np.random.RandomState, picture: np.ndarray) -> np.ndarray:
    """Return a picture with noise as uint8."""
    picture = picture + _NOISE * random.standard_normal(picture.shape)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def draw_object(
    random: np.random.RandomState,
    picture: np.ndarray,
    mask: np.ndarray,
    parts: tuple[str, str],
    mask_id: int,
    void_id: int = IGNORE,
) -> None:
    """Draw one shape into a picture and its mask, both changed.

    Args:
        random: Source of the random size, place, angle and colours.
        picture: float (S, S, 3), RGB.
        mask: uint8 (S, S).
        parts: Shape and texture.
        mask_id: The mask's value inside the shape.
        void_id: The mask's value along the border.
    """
    shape, texture = parts
    size = len(mask)
    radius = size * random.uniform(*_RADIUS)
    centre = size * random.uniform(*_CENTRE, size=2)
    # Only the part of the picture that the shape can reach is drawn.
    low = np.maximum(0, np.floor(centre - _REACH * radius)).astype(int)
    high = np.minimum(size, np.ceil(centre + _REACH * radius) + 1).astype(int)
    part = slice(low[1], high[1]), slice(low[0], high[0])
    rows, columns = np.mgrid[part]
    x, y = _rotate(columns - centre[0], rows - centre[1], random.uniform(-_TURN, _TURN))
    distance = shape_distance(shape, x / radius, y / radius) * radius
    x, y = _rotate(x, y, random.uniform(-np.pi, np.pi))
    share = _texture(random, texture, x, y, size * random.uniform(*_PERIOD))[..., None]
    light, dark = _colour_pair(random)
    inside = distance < 0
    picture[part][inside] = (share * light + (1 - share) * dark)[inside]
    mask[part][inside] = mask_id
    mask[part][np.abs(distance) < _BORDER] = void_id


def _rotate(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    cosine, sine = np.cos(angle), np.sin(angle)
    return cosine * x + sine * y, cosine * y - sine * x


def shape_distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the distance of points from the edge of a shape: negative inside, zero on the edge.

    Args:
        shape: One of :data:`SHAPES`, ``'triangle'`` or ``'hexagon'``.
        x: Abscissae, in units of the shape's radius, centre at 0.
        y: Ordinates likewise.

    Returns:
        The distances in the same unit. Beyond a corner of a straight-edged shape it is
        the distance to the line of the nearer edge, which is slightly too small.
    """
    if shape == 'disc':
        return np.hypot(x, y) - 1
    if shape == 'ring':
        return np.abs(np.hypot(x, y) - 0.75) - 0.3
    if shape == 'triangle':
        return np.maximum(0.87 * np.abs(x) + 0.5 * y, -y) - 0.5
    if shape == 'hexagon':
        return np.maximum(0.87 * np.abs(x) + 0.5 * np.abs(y), np.abs(y)) - 0.85
    if shape == 'bar':
        return np.maximum(np.abs(x) - 1.3, np.abs(y) - 0.3)
    upright = np.maximum(np.abs(x) - 0.36, np.abs(y) - 1.1)
    lying = np.maximum(np.abs(x) - 1.1, np.abs(y) - 0.36)
    return np.minimum(upright, lying)


def _texture(
    random: np.random.RandomState, texture: str, x: np.ndarray, y: np.ndarray, period: float
) -> np.ndarray:
    """Return the share of the lighter of two colours, (H, W) in 0..1."""
    if texture == 'stripes':
        return (np.mod(x / period, 1) < 0.5).astype(float)
    if texture == 'checks':
        return np.mod(np.floor(x / period * 1.6) + np.floor(y / period * 1.6), 2)
    if texture == 'dots':
        from_centre = np.hypot(np.mod(x / period, 1) - 0.5, np.mod(y / period, 1) - 0.5)
        return (from_centre < 0.32).astype(float)
    if texture == 'mesh':
        return (np.minimum(np.mod(x / period, 1), np.mod(y / period, 1)) > 0.3).astype(float)
    # 'grain'
    return random.uniform(size=x.shape)


def _colour_pair(random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Draw a light and a dark colour of any hue, so that colours tell nothing of the class."""
    hues, saturations = random.uniform(size=2), random.uniform(0.1, 0.9, size=2)
    values = random.uniform(0.75, 1.0), random.uniform(0.1, 0.35)
    light, dark = (
        255 * np.array(colorsys.hsv_to_rgb(h, s, v))
        for h, s, v in zip(hues, saturations, values, strict=True)
    )
    return light, dark


def draw_background(random: np.random.RandomState, size: int) -> np.ndarray:
    """Draw soft blobs of two colours, coarser than the textures of the shapes, float (H, W, 3)."""
    cells = random.randint(3, 9)
    grid = random.uniform(size=(cells, cells))
    places = np.linspace(0, cells - 1, size)
    weights = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(cells)))
    share = (weights @ grid @ weights.T)[..., None]
    first, second = random.uniform(30, 225, size=(2, 3))
    return share * first + (1 - share) * second


def palette() -> list[list[int]]:
    """Return Pascal VOC's colours: the bits of the class id spread over red, green and blue."""
    colours = []
    for class_id in range(NUM_CLASSES):
        colour = [0, 0, 0]
        for place in range(8):
            for channel in range(3):
                colour[channel] |= (class_id >> (3 * place + channel) & 1) << (7 - place)
        colours.append(colour)
    return colours
