/** The arithmetic of the grid. Pure. */

export interface Grid {
  columns: number;
  rows: number;
  /** CSS pixels. */
  width: number;
  height: number;
}

/** Tiles are between portrait 3:4 and landscape 16:9. */
export const narrowest = 3 / 4;
export const widest = 16 / 9;

/** The grid of equal tiles that covers most of a stage, of any shape; fewer empty places win where two cover the same. */
export function fit(count: number, width: number, height: number, gap: number): Grid {
  let best: Grid = { columns: 1, rows: Math.max(1, count), width: 0, height: 0 };
  let bestArea = -1;
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    let w = (width - gap * (columns - 1)) / columns;
    let h = (height - gap * (rows - 1)) / rows;
    if (w <= 0 || h <= 0) continue;
    if (w / h > widest) w = h * widest;
    else if (w / h < narrowest) h = w / narrowest;
    const area = w * h * (1 - 0.001 * (columns * rows - count));
    if (area > bestArea) {
      bestArea = area;
      best = { columns, rows, width: Math.floor(w), height: Math.floor(h) };
    }
  }
  return best;
}

/** Whether a picture fills its tile (its edges cut off) or is shown whole: at most `cut` of it may be lost. */
export function fills(picture: number, tile: number, cut = 0.45): boolean {
  if (!(picture > 0) || !(tile > 0)) return true;
  return 1 - Math.min(picture, tile) / Math.max(picture, tile) <= cut;
}
