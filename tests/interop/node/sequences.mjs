// One step of a random sequence by Node's client: JSON lines, each {"seq", "now", "do", ...}, answered in order.
//
// `now` is what Date.now() says until the next line, so that both clients live by one clock and nothing sleeps.
// A worker here runs nothing: it makes the calls of a worker when it is told to.
import { createInterface } from 'node:readline';
import { Queue, Worker, FlowProducer, Job, UnrecoverableError } from 'bullmq';

const [, , socket] = process.argv;
const connection = { path: socket, maxRetriesPerRequest: null };
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');

let now = Date.now();
Date.now = () => now;

const queue = new Queue('q', { connection });
const flows = new FlowProducer({ connection });
const worker = new Worker('q', null, {
  connection, autorun: false, lockDuration: 30000, stalledInterval: 30000, maxStalledCount: 1,
});
for (const each of [queue, flows, worker]) each.on('error', () => {});

const find = async (id, owner = queue) => {
  const job = await Job.fromId(owner, id);
  if (!job) throw new Error(`Missing key for job ${id}`);
  return job;
};
const told = (job) => (job ? { id: job.id, token: job.token } : null);

const actions = {
  queue: async ({ method, args }) => {
    const answer = await queue[method](...args);
    if (method === 'add') return answer.id;
    if (method === 'addBulk') return answer.map((job) => job.id);
    return method === 'getJobCounts' || method === 'clean' ? answer : null;
  },
  flow: async ({ tree }) => (await flows.add(tree)).job.id,
  job: async ({ id, method, args }) => {
    await (await find(id))[method](...args);
    return null;
  },
  fetch: async ({ token }) => {
    // A worker without a memory: what it knows of a rate limit it may have from another sequence.
    Object.assign(worker, { limitUntil: 0, blockUntil: 0, drained: false });
    return told(await worker.getNextJob(token, { block: false }));
  },
  complete: async ({ id, token, value, fetch = false }) => {
    const next = await (await find(id, worker)).moveToCompleted(value, token, fetch);
    if (!fetch || !next || !next[0]) return null;
    // What a worker does with it first: the run after a scheduler's job is added.
    const job = await worker.nextJobFromJobData(next[0], next[1], token);
    return job ? job.id : null;
  },
  fail: async ({ id, token, reason, unrecoverable }) => {
    const error = unrecoverable ? new UnrecoverableError(reason) : new Error(reason);
    await (await find(id, worker)).moveToFailed(error, token, false);
    return null;
  },
  stalled: async () => {
    await worker.moveStalledJobsToWait();
    return null;
  },
};

await Promise.all([queue.waitUntilReady(), worker.waitUntilReady()]);
say({ ready: process.pid });
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  now = request.now;
  try {
    say({ seq: request.seq, ok: (await actions[request.do](request)) ?? null });
  } catch (error) {
    say({ seq: request.seq, error: `${error.message}`, code: error.code ?? null });
  }
}
process.exit(0);
