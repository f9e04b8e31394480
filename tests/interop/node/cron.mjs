// What cron-parser says: {"pattern", "zone", "after"} in, one object a line; {"next"} (epoch ms) or {"error"} out.
// The iterator is made anew for each, as BullMQ does for each iteration.
import { createInterface } from 'node:readline';
import { CronExpressionParser } from 'cron-parser';

const answer = ({ pattern, zone, after }) => {
  let times;
  try {
    times = CronExpressionParser.parse(pattern, { currentDate: new Date(after), tz: zone });
  } catch (error) {
    return { refused: error.message };
  }
  try {
    return { next: times.next().getTime() };
  } catch (error) {
    return { none: error.message };
  }
};

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(answer(JSON.parse(line))) + '\n');
}
