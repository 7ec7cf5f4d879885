// Bytes and speed over the tokens that were generated in this visit.
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';

const HEIGHT = 220;

/** One point of the plot. */
export interface Point {
  readonly cacheBytes: number;
  readonly float16Bytes: number;
  readonly tokensPerSecond: number | undefined;
}

/** A colour of the page as a canvas takes it: the property itself still says `light-dark(…)`, which a canvas ignores. */
function color(name: string): string {
  const probe = document.createElement('span');
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const resolved = getComputedStyle(probe).color;
  probe.remove();
  return resolved;
}

/** A plot that follows its element's width and the page's colours. */
export class Chart {
  readonly #element: HTMLElement;
  readonly #x: number[] = [];
  readonly #cache: number[] = [];
  readonly #float16: number[] = [];
  readonly #speed: (number | null)[] = [];
  #plot: uPlot | undefined;
  #frame = 0;

  constructor(element: HTMLElement) {
    this.#element = element;
    this.#build();
    new ResizeObserver(() => {
      this.#plot?.setSize({ width: element.clientWidth, height: HEIGHT });
    }).observe(element);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#build());
  }

  add({ cacheBytes, float16Bytes, tokensPerSecond }: Point): void {
    this.#element.classList.remove('empty');
    this.#x.push(this.#x.length);
    this.#cache.push(cacheBytes / 1e6);
    this.#float16.push(float16Bytes / 1e6);
    this.#speed.push(tokensPerSecond ?? null);
    // Tokens may come faster than frames.
    if (this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#plot?.setData(this.#data());
    });
  }

  /** Forgets all points. */
  clear(): void {
    this.#element.classList.add('empty');
    for (const values of [this.#x, this.#cache, this.#float16, this.#speed]) values.length = 0;
    this.#plot?.setData(this.#data());
  }

  #data(): uPlot.AlignedData {
    return [this.#x, this.#cache, this.#float16, this.#speed];
  }

  #build(): void {
    this.#plot?.destroy();
    const [ink, line] = [color('--ink'), color('--line')];
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    const fromZero = (_: uPlot, __: number, most: number): uPlot.Range.MinMax => [0, Math.max(1, most * 1.1)];
    const series = (name: string, scale: string, extra: Partial<uPlot.Series> = {}): uPlot.Series => ({
      scale,
      stroke: color(name),
      width: 2,
      points: { show: false },
      ...extra,
    });
    this.#plot = new uPlot(
      {
        width: this.#element.clientWidth || 300,
        height: HEIGHT,
        legend: { show: false },
        cursor: { show: false },
        scales: {
          x: { time: false, range: (_, __, most) => [0, Math.max(50, most)] },
          bytes: { range: fromZero },
          speed: { range: fromZero },
        },
        axes: [
          { ...axis, label: 'tokens generated', labelSize: 20, size: 36 },
          { ...axis, scale: 'bytes', label: 'MB', labelSize: 20, size: 44 },
          { ...axis, scale: 'speed', side: 1, grid: { show: false }, label: 'tokens/s', labelSize: 20, size: 48 },
        ],
        series: [
          {},
          series('--cache', 'bytes'),
          series('--float16', 'bytes', { dash: [6, 4] }),
          series('--speed', 'speed', { width: 1.5 }),
        ],
      },
      this.#data(),
      this.#element,
    );
  }
}
