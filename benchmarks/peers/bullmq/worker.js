"use strict";
// node worker.js CONCURRENCY: deliver mails over a pool of as many connections, until SIGTERM.

const { Worker } = require("bullmq");
const Redis = require("ioredis");
const nodemailer = require("nodemailer");
const { message } = require("./mail.js");

const concurrency = Number(process.argv[2]);
const transport = nodemailer.createTransport({
  pool: true,
  host: "127.0.0.1",
  port: Number(process.env.BENCH_SMTP),
  secure: false,
  ignoreTLS: true,
  maxConnections: concurrency,
  maxMessages: Infinity,
});
const connection = new Redis.Redis({ port: Number(process.env.BENCH_REDIS), maxRetriesPerRequest: null });
const worker = new Worker("mail", (job) => transport.sendMail(message(job.data)).then(() => null), {
  connection,
  concurrency,
});
worker.on("error", (error) => console.error(error));
worker.on("failed", (job, error) => console.error(error));

process.on("SIGTERM", async () => {
  await worker.close();
  transport.close();
  await connection.quit();
});
