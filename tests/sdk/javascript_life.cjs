// What E2B's JavaScript SDK can do with a sandbox as a whole: see javascript_driver.cjs.
const assert = require('node:assert')
const { e2b, fetchStatus, until } = require('./javascript_cases.cjs')
const { SandboxError, SandboxNotFoundError, TimeoutError } = e2b

async function createAndList(sandbox, Sandbox) {
  const info = await sandbox.getInfo()
  assert.deepEqual([info.metadata, info.state, info.sandboxId], [{ 'purpose 1': 'a&b' }, 'running', sandbox.sandboxId])
  assert.deepEqual((await Sandbox.getInfo(sandbox.sandboxId)).startedAt, info.startedAt)
  assert.equal((await Sandbox.getFullInfo(sandbox.sandboxId)).sandboxId, sandbox.sandboxId)

  const same = { key: `first-${sandbox.sandboxId}` }
  const two = await Sandbox.create({ metadata: same, timeoutMs: 120_000 })
  await two.setTimeout(300_000)
  await Sandbox.setTimeout(two.sandboxId, 200_000)
  const left = async () => (await two.getInfo()).endAt - Date.now()
  assert((await left()) > 190_000 && (await left()) <= 200_000)
  const query = { metadata: same, state: ['running'], template: 'base', startedAfter: info.startedAt }
  assert.deepEqual((await Sandbox.list({ query }).nextItems()).map((s) => s.sandboxId), [two.sandboxId])
  const page = { query: { startedAfter: info.startedAt }, limit: 1, order: 'asc' }
  const first = Sandbox.list(page)
  assert.deepEqual((await first.nextItems()).map((s) => s.sandboxId), [sandbox.sandboxId])
  assert(first.hasNext)
  const rest = Sandbox.list({ ...page, nextToken: first.nextToken })
  assert.deepEqual((await rest.nextItems()).map((s) => s.sandboxId), [two.sandboxId])

  const connected = await Sandbox.connect(two.sandboxId, { timeoutMs: 400_000 })
  assert((await left()) > 390_000)
  await two.connect()
  assert.equal((await connected.commands.run('echo 2')).stdout, '2\n')
  assert.equal(await Sandbox.kill(two.sandboxId), true)
  assert.equal(await Sandbox.kill(two.sandboxId), false)
  await assert.rejects(two.connect(), SandboxNotFoundError)
  await assert.rejects(Sandbox.create('no-such-template'), /no-such-template/)
}

async function end(sandbox, Sandbox) {
  const running = await sandbox.commands.run('sleep 100', { background: true })
  const ended = assert.rejects(running.wait(), TimeoutError)
  assert(await sandbox.isRunning())
  assert.equal(await sandbox.kill(), true)
  await ended
  assert.equal(await sandbox.isRunning(), false)
  assert.equal(await sandbox.kill(), false)
  await assert.rejects(Sandbox.connect(sandbox.sandboxId), SandboxNotFoundError)
  await assert.rejects(sandbox.getInfo(), SandboxNotFoundError)
  await assert.rejects(sandbox.setTimeout(1000), SandboxNotFoundError)
  await assert.rejects(sandbox.commands.run('true'), SandboxError)
}

// What else E2B's cloud serves is looked up, or refused with a sentence.
async function services() {
  const client = new e2b.E2B({ apiKey: process.env.E2B_API_KEY })
  assert.deepEqual(Object.keys(client).sort(), ['Sandbox', 'Secret', 'Template', 'Volume'])
  assert(await (await client.Sandbox.create({ timeoutMs: 60_000 })).kill())
  assert(await client.Template.exists('base'))
  assert.equal(await client.Template.exists('no-such-template'), false)
  await assert.rejects(client.Template.build(e2b.Template().fromBaseImage(), 'mine'), /not built here/)
  await assert.rejects(client.Volume.create('v'), /no volumes/)
  await assert.rejects(client.Secret.create('s', 'value'), /no secrets/)
}

async function pause(Sandbox) {
  const sandbox = await Sandbox.create({ timeoutMs: 60_000 })
  const sleeper = await sandbox.commands.run('sleep 1000', { background: true })
  sleeper.wait().catch(() => {}) // its stream ends with the pause
  await sandbox.files.write('kept', '1')
  const pids = async () => (await sandbox.commands.list()).map((process) => process.pid)
  assert.equal(await sandbox.pause(), true)
  assert.equal(await Sandbox.pause(sandbox.sandboxId), false)
  assert.equal((await sandbox.getInfo()).state, 'paused')
  assert.equal(await sandbox.isRunning(), false)
  const paused = await Sandbox.list({ query: { state: ['paused'] } }).nextItems()
  assert(paused.some((s) => s.sandboxId === sandbox.sandboxId))
  await sandbox.connect({ timeoutMs: 120_000 })
  assert((await pids()).includes(sleeper.pid))

  assert.equal(await sandbox.pause({ keepMemory: false }), true)
  await sandbox.connect()
  assert.deepEqual([await pids(), await sandbox.files.read('kept')], [[], '1'])
  assert.equal(await sandbox.betaPause(), true)
  await sandbox.connect({ onResume: 'reboot' })
  assert.equal(await Sandbox.betaPause(sandbox.sandboxId), true)
  assert.equal(await sandbox.kill(), true)
  await assert.rejects(sandbox.pause(), SandboxNotFoundError)
}

async function lifecycle(Sandbox) {
  const filesystem = await Sandbox.create({ timeoutMs: 3000, lifecycle: { onTimeout: { action: 'pause', keepMemory: false } } })
  const woken = await Sandbox.create({ timeoutMs: 3000, lifecycle: { onTimeout: 'pause', autoResume: true } })
  await filesystem.files.write('kept', '1')
  // No stream is left open: the SDK asks after a sandbox whose stream breaks, and that would wake it.
  await woken.commands.run('python3 -m http.server 8000 >/dev/null 2>&1 &')
  for (const sandbox of [filesystem, woken]) await until(async () => (await sandbox.getInfo()).state === 'paused', 'the pause')
  assert.deepEqual({ ...(await woken.getInfo()).lifecycle }, { onTimeout: 'pause', autoResume: true })
  await filesystem.connect()
  assert.equal(await filesystem.files.read('kept'), '1')
  assert.equal(await fetchStatus(woken.getHost(8000)), 200)
  assert.equal((await woken.getInfo()).state, 'running')
  for (const sandbox of [filesystem, woken]) assert(await sandbox.kill())
}

async function snapshots(Sandbox) {
  const sandbox = await Sandbox.create({ timeoutMs: 60_000 })
  await sandbox.files.write('kept', '1')
  const plain = await sandbox.createSnapshot()
  const name = `snapshot-${Date.now()}`
  const named = await Sandbox.createSnapshot(sandbox.sandboxId, { name })
  await sandbox.files.write('kept', '2')
  const pages = sandbox.listSnapshots({ limit: 1 })
  const first = await pages.nextItems()
  assert(pages.hasNext && pages.nextToken)
  const rest = await pages.nextItems()
  assert.deepEqual([...first, ...rest].map((s) => s.snapshotId).sort(), [plain.snapshotId, named.snapshotId].sort())
  const byName = await Sandbox.listSnapshots({ sandboxId: sandbox.sandboxId, name }).nextItems()
  assert.deepEqual(byName.map((s) => s.snapshotId), [named.snapshotId])
  for (const { snapshotId } of [plain, named]) {
    const made = await Sandbox.create(snapshotId, { timeoutMs: 60_000 })
    assert.equal(await made.files.read('kept'), '1')
    assert(await made.kill())
    assert.equal(await Sandbox.deleteSnapshot(snapshotId), true)
    assert.equal(await Sandbox.deleteSnapshot(snapshotId), false)
  }

  const forks = await sandbox.fork({ timeoutMs: 60_000, count: 2 })
  forks.push(...(await Sandbox.fork(sandbox.sandboxId)))
  for (const [n, fork] of forks.entries()) {
    assert.equal(await fork.files.read('kept'), '2')
    await fork.files.write('kept', `fork ${n}`)
  }
  const all = [sandbox, ...forks]
  assert.deepEqual(await Promise.all(all.map((s) => s.files.read('kept'))), ['2', 'fork 0', 'fork 1', 'fork 2'])
  for (const s of all) assert(await s.kill())
}

async function network(Sandbox) {
  const sandbox = await Sandbox.create({
    timeoutMs: 60_000, secure: true, allowInternetAccess: true,
    network: { denyOut: ({ allTraffic }) => [allTraffic], allowOut: ['192.0.2.1'], allowPublicTraffic: false, maskRequestHost: 'masked:${PORT}' },
  })
  const info = async () => (await sandbox.getInfo()).network
  assert.deepEqual([(await info()).denyOut, (await info()).allowOut], [['0.0.0.0/0'], ['192.0.2.1']])
  const host = sandbox.getHost(8000)
  assert.equal(await fetchStatus(host), 403)
  assert.equal(await fetchStatus(host, { 'e2b-traffic-access-token': sandbox.trafficAccessToken }), 502)
  await sandbox.updateNetwork({ denyOut: ['192.0.2.2'] })
  assert.deepEqual((await info()).denyOut, ['192.0.2.2'])
  await Sandbox.updateNetwork(sandbox.sandboxId, {})
  assert(!(await info())?.denyOut?.length)
  assert(await sandbox.kill())
  await assert.rejects(sandbox.updateNetwork({}), SandboxNotFoundError)
}

async function metrics(Sandbox) {
  const sandbox = await Sandbox.create({ timeoutMs: 60_000 })
  const begin = new Date(Date.now() - 5000)
  let measured
  await until(async () => (measured = await sandbox.getMetrics()).length > 0, 'the first metrics')
  assert(measured[0].cpuCount >= 1 && measured[0].memUsed > 0 && measured[0].memUsed <= measured[0].memTotal)
  const all = await Sandbox.getMetrics(sandbox.sandboxId, { start: begin, end: new Date(Date.now() + 5000) })
  assert(all.length > 0)
  assert(await sandbox.kill())
}

module.exports = { onOneSandbox: [createAndList, end], alone: [services, pause, lifecycle, snapshots, network, metrics] }
