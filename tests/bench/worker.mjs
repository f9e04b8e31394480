// Node's inline worker with the job of noop.py: worker.mjs PORT QUEUE CONCURRENCY
import { openSync, writeSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(new URL("../interop/package.json", import.meta.url));
const { Worker } = require("bullmq");
const [port, queue, concurrency] = process.argv.slice(2);
const marks = openSync(process.env.BENCH_MARKS, "a");
const now = () => Number(process.hrtime.bigint()) / 1e9;

async function noop(job) {
  const start = now();
  const mark = Buffer.allocUnsafe(24);
  mark.writeDoubleLE(start, 0);
  mark.writeDoubleLE(now(), 8);
  mark.writeInt32LE(process.pid, 16);
  mark.writeInt32LE(job.data.i, 20);
  writeSync(marks, mark);
}

const worker = new Worker(queue, noop, {
  connection: { host: "127.0.0.1", port: Number(port), maxRetriesPerRequest: null },
  concurrency: Number(concurrency),
});
worker.on("error", (error) => console.error(error.message));
process.on("SIGTERM", () => worker.close().then(() => process.exit(0)));
