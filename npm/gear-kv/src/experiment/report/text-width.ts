// How wide texts are where nothing can measure them: vega takes 0.8 of the font's size a letter, which cuts names off that have room.

/** Text of a plot, as vega has it. */
export interface PlottedText {
  readonly fontSize?: number;
  readonly fontWeight?: string | number;
  /** The most pixels that it may take; none where that is 0 or absent. */
  readonly limit?: number;
}

/** Letters and their width over the font's size, after DejaVu Sans, which is wider than other fonts of pages; the first that fits. */
const LETTERS: readonly (readonly [RegExp, number])[] = [
  [/[ijlI.,:;'|! ]/u, 0.32],
  [/[frtJ()[\]/-]/u, 0.4],
  [/[mwMW%…+=<>]/u, 0.97],
  [/[A-Z]/u, 0.72],
  // Scripts whose letters are square.
  [/[\u2e80-\u{1faff}]/u, 1],
];
const OTHERS = 0.63;
const BOLD = 1.12;

/** Pixels that a text takes; its limit at most. */
export function textWidth({ fontSize = 11, fontWeight, limit = 0 }: PlottedText, text: string): number {
  const letters = [...text].reduce(
    (sum, letter) => sum + (LETTERS.find(([pattern]) => pattern.test(letter))?.[1] ?? OTHERS),
    0,
  );
  const width = letters * fontSize * (fontWeight === 'bold' || Number(fontWeight) >= 600 ? BOLD : 1);
  return limit > 0 ? Math.min(width, limit) : width;
}
