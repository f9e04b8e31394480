// BullMQ's Node clients behind JSON lines: one process serves a whole test module.
//
// In   {"seq", "do", "version": 6 | 5, "queue", ...} one object a line; `do` is a name in `actions` below.
// Out  {"seq", "ok"} or {"seq", "error", "code"} for each, in the order they are done, and
//      {"told": "worker" | "events", "queue", "name", "args"} whenever a worker or a QueueEvents emits.
import { createInterface } from 'node:readline';
import * as v6 from 'bullmq';
import * as v5 from 'bullmq5';

const [, , socket] = process.argv;
const connection = { path: socket, maxRetriesPerRequest: null };
const libraries = { 5: v5, 6: v6 };
const open = new Map();

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');

// Jobs hold their queue and with it the whole connection; what is told of one is its plain JSON.
const plain = (value) => {
  if (Array.isArray(value)) return value.map(plain);
  if (value && typeof value.asJSON === 'function') {
    return { ...value.toJSON(), state: undefined };
  }
  return value === undefined ? null : value;
};

const keep = (kind, { version = 6, queue, name = '' }, make) => {
  const key = [kind, version, queue, name].join('|');
  if (!open.has(key)) open.set(key, make(libraries[version]));
  return open.get(key);
};

const queueOf = (request) =>
  keep('queue', request, (library) => new library.Queue(request.queue, { connection, ...request.opts }));

// What a job does is told by its name.
const processors = {
  echo: async (job) => ({ echo: job.data, attempt: job.attemptsMade + 1 }),
  fail: async (job) => {
    throw new Error(job.data.message);
  },
  failOnce: async (job) => {
    if (job.attemptsMade === 0) throw new Error('first time');
    return 'second time';
  },
  unrecoverable: (job, version) => {
    throw new libraries[version].UnrecoverableError(job.data.message);
  },
  talk: async (job) => {
    await job.updateProgress(10);
    await job.log('one row');
    await job.updateProgress({ half: true });
    return job.data;
  },
  hang: () => new Promise(() => {}),
  collect: (job) => job.getChildrenValues(),
  ignored: (job) => job.getIgnoredChildrenFailures(),
};

const listenTo = (emitter, told, queue, names) => {
  for (const name of names) {
    emitter.on(name, (...args) => say({ told, queue, name, args: plain(args.map(shown)) }));
  }
  emitter.on('error', (error) => say({ told, queue, name: 'error', args: [error.message] }));
};
const shown = (arg) => (arg instanceof Error ? arg.message : arg && arg.id && arg.opts ? arg.id : arg);

const WORKER_EVENTS = ['active', 'completed', 'failed', 'stalled', 'drained', 'progress'];
const QUEUE_EVENTS = [
  'added', 'waiting', 'active', 'progress', 'completed', 'failed', 'delayed', 'drained', 'stalled',
  'duplicated', 'removed', 'paused', 'resumed', 'retries-exhausted',
];

const treeOf = ({ job, children = [] }) => ({ id: job.id, name: job.name, children: children.map(treeOf) });

const actions = {
  flow: async (request) => {
    const producer = keep('flow', { ...request, queue: '' }, (library) => new library.FlowProducer({ connection }));
    return treeOf(await producer[request.method](...request.args));
  },
  queue: async (request) => {
    const queue = queueOf(request);
    return queue[request.method](...(request.args ?? []));
  },
  job: async (request) => {
    const job = await libraries[request.version ?? 6].Job.fromId(queueOf(request), request.id);
    return request.method ? job[request.method](...(request.args ?? [])) : job;
  },
  worker: async (request) => {
    const worker = keep('worker', request, (library) => {
      const run = (job) => processors[job.name](job, request.version ?? 6);
      const made = new library.Worker(request.queue, run, {
        connection, name: request.name, drainDelay: 1, ...request.opts,
      });
      listenTo(made, 'worker', request.queue, WORKER_EVENTS);
      return made;
    });
    await worker.waitUntilReady();
    return null;
  },
  events: async (request) => {
    const events = keep('events', request, (library) => {
      const made = new library.QueueEvents(request.queue, { connection, lastEventId: request.since ?? '0-0' });
      listenTo(made, 'events', request.queue, [...QUEUE_EVENTS, ...(request.names ?? [])]);
      return made;
    });
    await events.waitUntilReady();
    return null;
  },
  publish: async (request) => {
    const producer = keep('producer', request, (library) => new library.QueueEventsProducer(request.queue, { connection }));
    await producer.publishEvent(request.event);
    return null;
  },
  waitUntilFinished: async (request) => {
    const library = libraries[request.version ?? 6];
    const job = await library.Job.fromId(queueOf(request), request.id);
    return job.waitUntilFinished(open.get(['events', request.version ?? 6, request.queue, ''].join('|')), 10000);
  },
  // Everything, or only the workers, so that a later test does not meet it.
  close: async (request) => {
    const mine = [...open].filter(([key]) => !request.kind || key.startsWith(request.kind));
    for (const [key] of mine) open.delete(key);
    await Promise.all(mine.map(([key, thing]) => thing.close(key.startsWith('worker'))));
    return null;
  },
};

say({ ready: process.pid });
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  // Not awaited: a request that waits must not hold up the next.
  Promise.resolve()
    .then(() => actions[request.do](request))
    .then(
      (value) => say({ seq: request.seq, ok: plain(value) }),
      (error) => say({ seq: request.seq, error: error.message, code: error.code ?? null }),
    );
}
process.exit(0);
