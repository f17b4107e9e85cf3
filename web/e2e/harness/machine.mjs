/** What the rest of the machine was doing while a test measured. */
import { readdirSync, readFileSync } from 'node:fs';

/** Above this share of the machine's CPU time, others leave too little for a picture to be judged by. */
export const DISTURBED = 0.15;

/**
 * Begins to watch. The function returned gives the share of the machine's CPU time since
 * then that went neither to this test and what it started nor was left idle: other
 * programs, and what the host of a virtual machine took away.
 */
export function watchMachine() {
  const before = { all: machineTicks(), own: ownTicks() };
  return () => {
    const [all, own] = [machineTicks(), ownTicks()];
    const total = all.total - before.all.total;
    let ours = 0;
    for (const [process, ticks] of own) ours += ticks - (before.own.get(process) ?? 0);
    return total > 0 ? Math.max(0, (all.busy - before.all.busy - ours) / total) : 0;
  };
}

/** Clock ticks of all processors since the machine started: proc_stat(5), the line "cpu". */
function machineTicks() {
  const [user, nice, system, idle, iowait, irq, softirq, steal] = readFileSync('/proc/stat', 'utf8')
    .split('\n', 1)[0]
    .trim()
    .split(/\s+/)
    .slice(1)
    .map(Number);
  const busy = user + nice + system + irq + softirq + steal;
  return { busy, total: busy + idle + iowait };
}

/** Clock ticks that this process and all that descend from it have used, by process. */
function ownTicks() {
  const parents = new Map();
  const ticks = new Map();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      // proc_pid_stat(5): what follows the command's closing bracket begins with field 3.
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      parents.set(Number(name), Number(fields[1]));
      ticks.set(Number(name), Number(fields[11]) + Number(fields[12]));
    } catch {
      // It ended meanwhile.
    }
  }
  const own = new Map();
  for (const pid of ticks.keys()) {
    for (let p = pid; p > 1; p = parents.get(p) ?? 0) {
      if (p === process.pid) own.set(pid, ticks.get(pid));
    }
  }
  return own;
}
