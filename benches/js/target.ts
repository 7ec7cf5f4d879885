/** One thing that was asked of the package. */
export interface Target {
  target: string;
  /** What was asked: at least that, or at most. */
  asked: number;
  atMost?: boolean;
  unit: string;
  reached: number;
  met: boolean;
  /** The most that `reached` could be by what the run says, and why. Not there where nothing in the run says so. */
  bound?: number;
  boundBy?: string;
}

/** With whether it is met. */
export function checked(target: Omit<Target, 'met'>): Target {
  const { asked, atMost, reached } = target;
  return { ...target, met: atMost ? reached <= asked : reached >= asked };
}
