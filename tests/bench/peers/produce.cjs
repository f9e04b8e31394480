// Add jobs: produce.cjs fill|one|bulk|latency KIND COUNT; prints one line of JSON. The twin of produce.py.
const fs = require("fs");
const { Queue, connection, QUEUE } = require("./bullmq.cjs");
const AT_ONCE = 1_000;
const WARMING = 5;
const PATIENCE_S = 20;
const MARK_BYTES = 24;
const now = () => Number(process.hrtime.bigint()) / 1e9;
const cell = new Int32Array(new SharedArrayBuffer(4));
const nap = (ms) => Atomics.wait(cell, 0, 0, ms);

async function many(queue, kind, count) {
  const begin = now();
  for (let first = 0; first < count; first += AT_ONCE) {
    const jobs = [];
    for (let i = first; i < Math.min(count, first + AT_ONCE); i++) jobs.push({ name: kind, data: { i } });
    await queue.addBulk(jobs);
  }
  return { rate: count / (now() - begin) };
}

async function one(queue, kind, count) {
  await queue.add(kind, { i: 0 }); // connects, and loads scripts
  const begin = now();
  for (let i = 0; i < count; i++) await queue.add(kind, { i });
  return { rate: count / (now() - begin) };
}

async function latency(queue, kind, count) {
  const marks = fs.openSync(process.env.BENCH_MARKS_READ, "r");
  const record = Buffer.alloc(MARK_BYTES);
  let have = fs.fstatSync(marks).size;
  const takenMs = [];
  for (let i = -WARMING; i < count; i++) {
    nap(10);
    const added = now();
    await queue.add(kind, { i });
    while (fs.fstatSync(marks).size < have + MARK_BYTES) {
      nap(0.1);
      if (now() - added > PATIENCE_S) throw new Error(`no job was done in ${PATIENCE_S} s`);
    }
    fs.readSync(marks, record, 0, MARK_BYTES, have);
    have += MARK_BYTES;
    if (i >= 0) takenMs.push((record.readDoubleLE(8) - added) * 1000);
  }
  takenMs.sort((a, b) => a - b);
  return { p50: takenMs[count >> 1], p99: takenMs[Math.min(count - 1, Math.floor(count * 0.99))] };
}

(async () => {
  const [mode, kind, count] = process.argv.slice(2);
  const queue = new Queue(QUEUE, { connection });
  await queue.waitUntilReady();
  const said = await { fill: many, bulk: many, one, latency }[mode](queue, kind, Number(count));
  await queue.close();
  console.log(JSON.stringify(said));
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
