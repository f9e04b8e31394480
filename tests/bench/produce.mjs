// How fast Node adds jobs: produce.mjs PORT QUEUE one|bulk COUNT; prints jobs a second.
import { createRequire } from "node:module";

const require = createRequire(new URL("../interop/package.json", import.meta.url));
const { Queue } = require("bullmq");
const [port, name, how, count] = process.argv.slice(2);
const queue = new Queue(name, { connection: { host: "127.0.0.1", port: Number(port) } });
await queue.add("noop", { i: -1 }); // connects, and loads the scripts

const start = process.hrtime.bigint();
if (how === "one") {
  for (let i = 0; i < count; i++) await queue.add("noop", { i });
} else {
  for (let from = 0; from < count; from += 1000) {
    const jobs = [];
    for (let i = from; i < Math.min(count, from + 1000); i++) jobs.push({ name: "noop", data: { i } });
    await queue.addBulk(jobs);
  }
}
console.log((Number(count) / Number(process.hrtime.bigint() - start)) * 1e9);
await queue.close();
