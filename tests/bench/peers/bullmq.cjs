// Node's bullmq, from where the interop tests have it, and where the server of the benchmark listens.
const { createRequire } = require("module");
const path = require("path");

module.exports = {
  ...createRequire(path.join(__dirname, "../../interop/package.json"))("bullmq"),
  connection: { host: "127.0.0.1", port: Number(process.env.BENCH_PORT), maxRetriesPerRequest: null },
  QUEUE: "bench",
};
