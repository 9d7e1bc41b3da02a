"use strict";
// node enqueue.js COUNT: queue that many mails one call each; print the median call as JSON.

const { Queue } = require("bullmq");
const Redis = require("ioredis");
const { values } = require("./mail.js");

async function main(count) {
  const connection = new Redis.Redis({ port: Number(process.env.BENCH_REDIS), maxRetriesPerRequest: null });
  const queue = new Queue("mail", {
    connection,
    defaultJobOptions: { removeOnComplete: true, attempts: 4 },
  });
  await queue.waitUntilReady();
  const microseconds = [];
  for (let number = 0; number < count; number += 1) {
    const began = process.hrtime.bigint();
    await queue.add("confirm", { to: `customer${number}@example.com`, values: values(number) });
    microseconds.push(Number(process.hrtime.bigint() - began) / 1000);
  }
  microseconds.sort((a, b) => a - b);
  console.log(JSON.stringify({ microseconds: microseconds[count >> 1] }));
  await queue.close();
  await connection.quit();
}

main(Number(process.argv[2]));
