/** The arithmetic of the grid. Pure. */

export interface Grid {
  columns: number;
  rows: number;
  /** CSS pixels. */
  width: number;
  height: number;
}

export const widest = 16 / 9;

/**
 * The narrowest tile: cameras are landscape, so tiles are too wherever the stage allows it. On a phone held upright they
 * may be as narrow as 3:4.
 */
export function narrowest(width: number, height: number): number {
  return Math.min(1.25, Math.max(3 / 4, width / height));
}

/** The grid of equal tiles that covers most of a stage, of any shape; fewer empty places win where two cover the same. */
export function fit(count: number, width: number, height: number, gap: number): Grid {
  let best: Grid = { columns: 1, rows: Math.max(1, count), width: 0, height: 0 };
  let bestArea = -1;
  const least = narrowest(width, height);
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    let w = (width - gap * (columns - 1)) / columns;
    let h = (height - gap * (rows - 1)) / rows;
    if (w <= 0 || h <= 0) continue;
    if (w / h > widest) w = h * widest;
    else if (w / h < least) h = w / least;
    const area = w * h * (1 - 0.001 * (columns * rows - count));
    if (area > bestArea) {
      bestArea = area;
      best = { columns, rows, width: Math.floor(w), height: Math.floor(h) };
    }
  }
  return best;
}

export type PictureFit = "fill" | "partly" | "whole";

/** How much of a picture may be cut off to fill its tile. */
const cutAtMost = 0.6;

/**
 * How a picture of one shape (width / height) goes into a tile of another: its edges cut off; or, where too much would be
 * lost, cut to a square if it's a landscape in a tall tile, else whole, because an upright picture has its face on top.
 */
export function pictureFit(picture: number, tile: number): PictureFit {
  if (!(picture > 0) || !(tile > 0)) return "fill";
  const cut = 1 - Math.min(picture, tile) / Math.max(picture, tile);
  if (cut <= cutAtMost) return "fill";
  return picture > 1 && tile < 1 ? "partly" : "whole";
}
