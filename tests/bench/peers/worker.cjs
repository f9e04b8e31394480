// worker.cjs inline|sandboxed CONCURRENCY: a worker that runs work.cjs in its own process, or in children.
const path = require("path");
const { Worker, connection, QUEUE } = require("./bullmq.cjs");
const [mode, concurrency] = process.argv.slice(2);
const file = path.join(__dirname, "work.cjs");
const processor = mode === "inline" ? require(file) : file;
const worker = new Worker(QUEUE, processor, { connection, concurrency: Number(concurrency) });
worker.on("error", (error) => console.error(error.message));
worker.on("failed", (job, error) => console.error("failed", job && job.id, error.message));
process.on("SIGTERM", () => worker.close().then(() => process.exit(0)));
