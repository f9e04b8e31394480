// What the measured jobs do, and where their marks go: the twin of work.py.
const fs = require("fs");
const BURN_US = 20_000;
const SLEEP_MS = 1_000;
const marks = fs.openSync(process.env.BENCH_MARKS, "a");
const now = () => Number(process.hrtime.bigint()) / 1e9;

function mark(start, end, number) {
  const record = Buffer.allocUnsafe(24);
  record.writeDoubleLE(start, 0);
  record.writeDoubleLE(end, 8);
  record.writeInt32LE(process.pid, 16);
  record.writeInt32LE(number, 20);
  fs.writeSync(marks, record);
}

function computedUs() {
  const { user, system } = process.cpuUsage();
  return user + system;
}

module.exports = async function (job) {
  const start = now();
  const number = job.data.i;
  if (job.name === "burn") {
    const end = computedUs() + BURN_US;
    while (computedUs() < end) for (let i = 0; i < 20_000; i++);
  } else if (job.name === "sleep") {
    mark(start, 0, number);
    await new Promise((resolve) => setTimeout(resolve, SLEEP_MS));
  } else if (job.name !== "noop") {
    throw new Error(job.name);
  }
  mark(start, now(), number);
};
