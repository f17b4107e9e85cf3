/**
 * A call over a bad link: what a viewer sees while a tenth of the packets is lost, and when the link becomes six times as
 * narrow. The limits are loose, for machines that do other things too; `make bench-network-browsers` measures the targets.
 */
import assert from 'node:assert/strict';
import { claim, undisturbed } from './harness/claims.mjs';
import { mayMakeNamespaces } from './harness/lab.mjs';
import { makeStage } from './network/call.mjs';
import { drop, loss } from './network/scenarios.mjs';

const skip = mayMakeNamespaces ? false : 'needs root, to make network namespaces';

const show = (value) => Number(value.toPrecision(3));

claim(
  'a picture stays whole while packets are lost, and follows when the link becomes narrow',
  async (stage) => {
    const call = stage.keep(await makeStage({ viewers: [1] }));

    await stage.cell('a tenth of the packets is lost, 60 ms round trip', () =>
      undisturbed(stage, async () => {
        const { '60 share': share, '60 freeze': freeze, '60 notes': { lost }, machine } = await loss({ delays: [30], seconds: 10 })(call, 'ours');
        stage.say(`${lost} packets lost, ${show(share)} % of the frames in time, longest freeze ${show(freeze)} ms; source at ${show(machine.fps * 100)} % of its rate, link late by up to ${machine.late} ms`);
        return () => {
          assert.ok(lost > 50, `only ${lost} packets were lost`);
          assert.ok(share >= 95, `only ${show(share)} % of the frames came in time`);
          assert.ok(freeze <= 1000, `the picture stood still for ${show(freeze)} ms`);
        };
      }),
    );

    await stage.cell('3 Mbit/s become 500 kbit/s, and return', () =>
      undisturbed(stage, async () => {
        const found = await drop({ below: 12, above: 15 })(call, 'ours');
        const { fits, above, settles, freeze, returns, machine } = found;
        stage.say(`fits after ${show(fits)} s, above for ${show(above)} s, queue under 100 ms after ${show(settles)} s, longest freeze ${show(freeze)} ms, full quality after ${show(returns)} s; source at ${show(machine.fps * 100)} % of its rate, link late by up to ${machine.late} ms`);
        return () => {
          assert.ok(fits <= 3, `what was sent fitted after ${show(fits)} s`);
          assert.ok(above <= 4, `more than the link takes was sent for ${show(above)} s`);
          assert.ok(settles <= 6, `the queue was long for ${show(settles)} s`);
          assert.ok(freeze <= 3000, `the picture stood still for ${show(freeze)} ms`);
          assert.ok(returns < 15, 'the full picture did not return');
        };
      }),
    );
  },
  { skip, timeout: 300_000 },
);
