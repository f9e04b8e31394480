// The public names of Node's classes, as one JSON object on stdout: { Queue: ["add", ...], ... }.
import * as bullmq from "bullmq";

const CLASSES = ["Queue", "Job", "Worker", "QueueEvents", "QueueEventsProducer", "FlowProducer"];
const found = {};
for (const name of CLASSES) {
  const names = new Set();
  for (let at = bullmq[name].prototype; at.constructor.name !== "EventEmitter" && at !== Object.prototype; ) {
    Object.getOwnPropertyNames(at).forEach((each) => names.add(each));
    at = Object.getPrototypeOf(at);
  }
  names.delete("constructor");
  for (const each of Object.getOwnPropertyNames(bullmq[name])) {
    if (!["length", "name", "prototype"].includes(each)) names.add(`${name}.${each}`);
  }
  found[name] = [...names].sort();
}
found.errors = Object.keys(bullmq).filter((each) => /^[A-Z]\w*Error$/.test(each));
console.log(JSON.stringify(found));
