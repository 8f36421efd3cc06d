// A backend in JavaScript: see load_client.py, whose plan and report it shares.
'use strict';
const fs = require('fs');
const readline = require('readline');

const PASSING = new Set([1, 13, 14]); // CANCELLED, INTERNAL, UNAVAILABLE

let grpc, Service, plan;
let stopped = false;
const report = { calls: 0, typed: 0, breaks: 0, failures: [], failed: 0, commands: {} };

function load() {
  const modules = process.env.SANDBOXD_TEST_GRPC_NODE_MODULES;
  grpc = require(`${modules}/@grpc/grpc-js`);
  const loader = require(`${modules}/@grpc/proto-loader`);
  const definition = loader.loadFileDescriptorSetFromBuffer(
    fs.readFileSync(plan.protoset), { keepCase: true, longs: Number, defaults: true, oneofs: true });
  Service = grpc.loadPackageDefinition(definition).sandbox.v1.SandboxService;
}

const connect = () => new Service(plan.address, grpc.credentials.createInsecure(), {
  'grpc.service_config': plan.service_config,
  'grpc.enable_http_proxy': 0,
  'grpc.use_local_subchannel_pool': 1,
});

function fail(what) {
  report.failed++;
  if (report.failures.length < 20) report.failures.push(what);
}

function call(client, method, request) {
  return new Promise((resolve) => {
    client[method](request, { deadline: Date.now() + 30000 }, (error, answer) => {
      if (error) fail(`${method}: ${error.code} ${error.details}`);
      else report.calls++;
      resolve(error ? null : answer);
    });
  });
}

async function unary(n) {
  const client = connect();
  const { sandbox_id } = plan;
  for (let round = 1; !stopped; round++) {
    const text = `${plan.name} ${n} ${round}`;
    const path = `${plan.name}-${n}`;
    await call(client, 'GetSandbox', { sandbox_id });
    if (await call(client, 'WriteFiles', { sandbox_id, files: [{ path, text }] })) {
      const got = await call(client, 'ReadFile', { sandbox_id, path });
      if (got && got.data.toString() !== text) fail(`read ${got.data}, wrote ${text}`);
    }
    await call(client, 'ListCommands', { sandbox_id });
  }
  client.close();
}

async function type() {
  const client = connect();
  const target = { sandbox_id: plan.sandbox_id, command_id: `${plan.name}-cat` };
  while (!stopped) {
    report.typed++;
    await call(client, 'SendInput', { ...target, text: `${report.typed}\n` });
    await new Promise((done) => setTimeout(done, 10));
  }
  await call(client, 'SendInput', { ...target, eof: true });
  client.close();
}

const begun = new Set();

function noteBegun(commandId) {
  if (begun.has(commandId)) return;
  begun.add(commandId);
  if (begun.size === plan.commands.length) console.log('begun');
}

// One stream: resolves with the error it ended with, or null.
function stream(client, commandId, seen) {
  return new Promise((resolve) => {
    const messages = client.Logs({
      sandbox_id: plan.sandbox_id, command_id: commandId, follow: true, from_seq: seen.seq + 1,
    });
    messages.on('data', (response) => {
      noteBegun(commandId);
      for (const event of response.events) {
        if (event.seq !== seen.seq + 1) fail(`Logs of ${commandId}: ${event.seq} after ${seen.seq}`);
        seen.seq = event.seq;
        seen.events++;
        if (event.event === 'stdout') seen.out.push(event.stdout);
        if (event.event === 'exited') seen.exited = true;
      }
    });
    messages.on('error', () => {}); // the status says the same
    messages.on('status', (status) => resolve(status.code === 0 ? null : status));
  });
}

async function follow(commandId) {
  const client = connect();
  const seen = { seq: 0, events: 0, out: [], exited: false };
  while (!seen.exited) {
    const error = await stream(client, commandId, seen);
    if (!error) continue;
    report.breaks++;
    if (!PASSING.has(error.code) || report.breaks > 1000) {
      fail(`Logs: ${error.code} ${error.details}`);
      return;
    }
  }
  report.commands[commandId] = { events: seen.events, out: Buffer.concat(seen.out).toString() };
  client.close();
}

async function main() {
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  plan = JSON.parse((await lines.next()).value);
  load();
  const work = [...plan.commands.map(follow), type()];
  for (let n = 0; n < plan.callers; n++) work.push(unary(n));
  await lines.next();
  stopped = true;
  await Promise.all(work);
  console.log(JSON.stringify(report));
  process.exit(0);
}

main();
