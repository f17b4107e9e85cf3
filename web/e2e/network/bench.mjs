/**
 * Measures the network targets with real browsers in network namespaces, ours and, when asked, another server of the same
 * room contract beside it, run by run in turn. Needs root.
 *
 *   node e2e/network/bench.mjs [--reference BINARY] [--only loss,drop] [--runs N] [--without-ours]
 *
 * Prints a table of medians; every run with its notes goes to artifacts/network/TIME.json. A missed target is a row that says
 * so; the exit code tells whether everything could be measured.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { artifact } from '../harness/files.mjs';
import { watchMachine } from '../harness/machine.mjs';
import { makeStage } from './call.mjs';
import { median } from './measure.mjs';
import { noise, scenarios } from './scenarios.mjs';

const { values } = parseArgs({
  options: { reference: { type: 'string' }, only: { type: 'string' }, runs: { type: 'string' }, 'without-ours': { type: 'boolean' } },
});
const chosen = scenarios.filter(({ name }) => !values.only || values.only.split(',').includes(name));
if (chosen.length === 0) throw new Error(`--only takes some of ${scenarios.map(({ name }) => name).join(', ')}`);
const which = [...(values['without-ours'] ? [] : ['ours']), ...(values.reference ? ['reference'] : [])];
if (which.length === 0) throw new Error('there is no server to measure');

const file = artifact('network', `${new Date().toISOString().replaceAll(':', '-').slice(0, 19)}.json`);
const results = [];
// The namespaces go when the process exits by itself, not when a signal ends it.
const stop = () => process.exit(130);
process.once('SIGINT', stop);
process.once('SIGTERM', stop);
const stage = await makeStage({ viewers: [2, 1], reference: values.reference });
try {
  for (const scenario of chosen) {
    for (let run = 1; run <= Number(values.runs ?? scenario.runs); run++) {
      for (const server of which) {
        const others = watchMachine();
        try {
          const found = await scenario.measure(stage, server);
          results.push({ scenario: scenario.name, server, run, others: others(), ...found });
          console.log(`${scenario.name} ${run} ${server}: ${brief(scenario, found)}`);
        } catch (error) {
          results.push({ scenario: scenario.name, server, run, others: others(), failed: String(error?.stack ?? error) });
          console.log(`${scenario.name} ${run} ${server}: failed: ${error.message}`);
        }
        writeFileSync(file, JSON.stringify(results, null, 1));
      }
    }
  }
} finally {
  await stage.remove();
}

table();
console.log(`every run: ${file}`);
process.exit(results.some(({ failed }) => failed) ? 1 : 0);

function brief({ figures }, found) {
  const { cpuLimited, fps, late } = found.machine;
  const machine = `source at ${Math.round(fps * 100)} % of its frame rate, ${cpuLimited.toFixed(1)} s short of CPU, link late by up to ${late} ms`;
  return `${figures.map(({ key }) => `${key} ${show(found[key])}`).join(', ')}; ${machine}`;
}

function show(value) {
  return value === null || value === undefined || Number.isNaN(value) ? '–' : Number(value.toPrecision(3)).toString();
}

/** One row per figure: the median of each server's runs, with the least and the most. */
function table() {
  const rows = [['scenario', 'figure', '', 'target', ...which, '']];
  for (const { name, title, figures } of chosen) {
    for (const { key, title: what, unit, target, meets, better, of, noise: apart = noise[unit] } of figures) {
      const cells = which.map((server) => results.filter((one) => one.scenario === name && one.server === server && !one.failed).map((one) => one[key]).filter((value) => typeof value === 'number'));
      const verdicts = [];
      const ours = which.indexOf('ours');
      if (ours >= 0 && target) {
        const met = of ? cells[ours].filter(meets).length >= (cells[ours].length * of) / 5 : meets(median(cells[ours]));
        if (cells[ours].length === 0 || !met) verdicts.push('MISSED');
      }
      if (which.length === 2 && cells.every((cell) => cell.length > 0) && better * (median(cells[0]) - median(cells[1])) < -apart) verdicts.push('worse than the reference');
      const text = (cell) => (cell.length === 0 ? '–' : `${show(median(cell))} (${show(Math.min(...cell))}…${show(Math.max(...cell))}, n ${cell.length})`);
      rows.push([title, what, unit, target, ...cells.map(text), verdicts.join(', ')]);
    }
  }
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  for (const row of rows) console.log(row.map((cell, i) => cell.padEnd(widths[i])).join('  ').trimEnd());
}
