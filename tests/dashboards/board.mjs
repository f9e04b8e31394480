// The dashboards and a browser behind JSON lines: one process serves a whole test module.
//
// Start   node board.mjs SOCKET CHROMIUM PROFILE   (Redis' unix socket, the browser, its new empty directory)
// In      {"seq", "do", ...} one object a line; `do` is a name in `actions` below.
// Out     {"seq", "ok"} or {"seq", "error", "code"} for each, in the order they are asked.
//
// Both dashboards listen on 127.0.0.1, on a port that the system chooses; what a page asks of any other host is
// refused, so that nothing of a test depends on the network.
import { createInterface } from 'node:readline';
import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { ExpressAdapter } from '@bull-board/express';
import Arena from 'bull-arena';
import { Queue } from 'bullmq';
import express from 'express';
import { Redis } from 'ioredis';
import { chromium } from 'playwright-core';

const [, , socket, executablePath, profile] = process.argv;
const PATIENCE_MS = 20000;
const redis = { path: socket, maxRetriesPerRequest: null };
const queues = [];
const servers = [];
let context;
let page;

// Arena 4.10 asks Redis for INFO through `queue.client`, which bullmq 6 does not have any more: without this
// every page of a queue ends the server. It reads and changes jobs through bullmq's own methods.
class QueueOfArena extends Queue {
  get client() {
    this.info ??= new Redis({ path: socket });
    return this.info;
  }
}

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');

const listening = (app) =>
  new Promise((resolve, reject) => {
    const server = app.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${server.address().port}`));
    server.on('error', reject);
    servers.push(server);
  });

const dashboards = {
  'bull-board': (name) => {
    const queue = new Queue(name, { connection: redis });
    queues.push(queue);
    const serverAdapter = new ExpressAdapter();
    createBullBoard({ queues: [new BullMQAdapter(queue)], serverAdapter });
    return express().use(serverAdapter.getRouter());
  },
  arena: (name) => {
    const made = { name, hostId: 'oxherd', type: 'bullmq', redis };
    return express().use(Arena({ BullMQ: QueueOfArena, queues: [made] }, { disableListen: true, useCdn: false }));
  },
};

const launch = async () => {
  const args = [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
  ];
  context = await chromium.launchPersistentContext(profile, {
    executablePath, args, viewport: { width: 1200, height: 800 },
  });
  context.setDefaultTimeout(PATIENCE_MS);
  await context.route((url) => url.hostname !== '127.0.0.1', (route) => route.abort());
  page = context.pages()[0] ?? (await context.newPage());
  page.on('dialog', (dialog) => dialog.accept());
};

const actions = {
  serve: ({ dashboard, queue }) => listening(dashboards[dashboard](queue)),
  open: async ({ url }) => {
    if (!page) await launch();
    await page.goto(url);
    return null;
  },
  // The text of the page, as soon as all of `has` is in it. A page that is being loaded may have no body yet.
  text: async ({ has }) => {
    const seen = (words) => {
      const text = document.body?.innerText ?? '';
      return words.every((word) => text.includes(word)) && { text };
    };
    try {
      return (await (await page.waitForFunction(seen, has)).jsonValue()).text;
    } catch (error) {
      const text = await page.evaluate(() => document.body?.innerText);
      throw new Error(`${error.message}\nthe page ${page.url()} says:\n${text}`);
    }
  },
  // Click on it. A button that is a picture only is known by `tip`, the text shown while the mouse is on it.
  click: async ({ selector, tip }) => {
    const button = page.locator(selector).first();
    if (tip) {
      await button.hover();
      await page.waitForFunction((last) => document.body.innerText.trimEnd().endsWith('\n' + last), tip);
    }
    await button.click();
    return null;
  },
  picture: async ({ path }) => {
    await page.screenshot({ path });
    return null;
  },
  close: async () => {
    await context?.close();
    for (const server of servers.splice(0)) {
      server.closeAllConnections();
      server.close();
    }
    await Promise.all(queues.splice(0).map((queue) => queue.close()));
    return null;
  },
};

let last = Promise.resolve();
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  last = last
    .then(() => actions[request.do](request))
    .then(
      (value) => say({ seq: request.seq, ok: value }),
      (error) => say({ seq: request.seq, error: error.message, code: null }),
    );
}
await last;
await actions.close();
process.exit(0);
