// From the pen's path to the 64 grey values that the model reads, as powfast/demo/strokes.py does.
const SIDE = 32, BOX = [15, 27], INK = 310, RADII = [1.4, 4.2];
const MOST_SLANT = 0.6, MOST_STRETCH = [1.5, 3];

const clip = (value, [low, high]) => Math.min(Math.max(value, low), high);

/** Strokes are arrays of [x, y], x to the right and y down, in any unit; there is at least one. */
export function normalised(strokes) {
  const slant = slantOf(strokes.flat());
  const upright = strokes.map((path) => path.map(([x, y]) => [x + slant * y, y]));
  const points = upright.flat();
  const [low, high] = [Math.min, Math.max].map((pick) => [0, 1].map((axis) => pick(...points.map((p) => p[axis]))));
  const [x, y] = BOX.map((room, axis) => room / Math.max(high[axis] - low[axis], 1e-6));
  const scale = [Math.min(x, MOST_STRETCH[0] * y), Math.min(y, MOST_STRETCH[1] * x)];
  const place = (point) => point.map((at, axis) => (at - (low[axis] + high[axis]) / 2) * scale[axis] + SIDE / 2);
  const distance = distances(upright.map((path) => path.map(place)));
  const radius = clip(distance.slice().sort()[INK - 1], RADII);
  const grey = new Array(64).fill(0);
  distance.forEach((far, i) => {
    const row = i >> 5, column = i & 31;
    if (far <= radius) grey[(row >> 2) * 8 + (column >> 2)] += 1 / 16;
  });
  return grey;
}

/** The shear that puts the left end of the top above that of the bottom. */
function slantOf(points) {
  const heights = points.map(([, y]) => y);
  const top = Math.min(...heights), bottom = Math.max(...heights), height = Math.max(bottom - top, 1e-6);
  const left = (near) => Math.min(...points.filter(([, y]) => near(y)).map(([x]) => x));
  const across = left((y) => y <= top + 0.06 * height) - left((y) => y >= bottom - 0.06 * height);
  return clip(across / height, [-MOST_SLANT, MOST_SLANT]);
}

/** Of each pixel's centre from the pen's path. */
function distances(strokes) {
  const segments = strokes.flatMap((path) =>
    path.length > 1 ? path.slice(1).map((end, i) => [path[i], end]) : [[path[0], path[0]]]);
  const squares = new Float64Array(SIDE * SIDE).fill(Infinity);
  for (const [[x, y], [endX, endY]] of segments) {
    const dx = endX - x, dy = endY - y, length = Math.max(dx * dx + dy * dy, 1e-12);
    for (let i = 0; i < squares.length; i++) {
      const offX = (i & 31) + 0.5 - x, offY = (i >> 5) + 0.5 - y;
      const share = Math.min(Math.max((offX * dx + offY * dy) / length, 0), 1);
      const square = (offX - share * dx) ** 2 + (offY - share * dy) ** 2;
      if (square < squares[i]) squares[i] = square;
    }
  }
  return squares.map(Math.sqrt);
}
