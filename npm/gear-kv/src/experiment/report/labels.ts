// Where the words beside points go, so that none covers another or a point.

/** Words at a point, in pixels. */
export interface Labelled {
  readonly x: number;
  readonly y: number;
  readonly text: string;
}

/** Where words stand from their point; none where there is no room for them. */
export interface Placement {
  readonly dx: number;
  readonly dy: number;
  readonly align: 'left' | 'right' | 'center';
  readonly shown: boolean;
}

interface Box {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

const HEIGHT = 13;
/** A letter's width, over the size of its font, at most. */
const LETTER = 6.6;
const POINT = 5;
const CANDIDATES = [
  { dx: 9, dy: 0, align: 'left' },
  { dx: -9, dy: 0, align: 'right' },
  { dx: 0, dy: -13, align: 'center' },
  { dx: 0, dy: 14, align: 'center' },
  { dx: 7, dy: -11, align: 'left' },
  { dx: 7, dy: 12, align: 'left' },
  { dx: -7, dy: -11, align: 'right' },
  { dx: -7, dy: 12, align: 'right' },
  { dx: 0, dy: -26, align: 'center' },
  { dx: 0, dy: 27, align: 'center' },
  { dx: 9, dy: -24, align: 'left' },
  { dx: 9, dy: 25, align: 'left' },
] as const;

/** Places words one after the other, each where the first free room is. */
export function placed(points: readonly Labelled[], width: number, height: number): readonly Placement[] {
  const taken: Box[] = points.map(({ x, y }) => ({
    left: x - POINT,
    right: x + POINT,
    top: y - POINT,
    bottom: y + POINT,
  }));
  return points.map((point, index) => {
    for (const candidate of CANDIDATES) {
      const box = boxOf(point, candidate);
      const inside = box.left >= 2 && box.right <= width - 2 && box.top >= 2 && box.bottom <= height - 2;
      if (!inside || taken.some((other, place) => place !== index && overlap(box, other))) continue;
      taken.push(box);
      return { ...candidate, shown: true };
    }
    return { dx: 0, dy: 0, align: 'left', shown: false };
  });
}

function boxOf({ x, y, text }: Labelled, { dx, dy, align }: (typeof CANDIDATES)[number]): Box {
  const long = text.length * LETTER;
  const left = x + dx - (align === 'left' ? 0 : align === 'right' ? long : long / 2);
  return { left, right: left + long, top: y + dy - HEIGHT / 2, bottom: y + dy + HEIGHT / 2 };
}

function overlap(a: Box, b: Box): boolean {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}
