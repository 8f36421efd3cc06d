// The first calls of E2B's own JavaScript SDK, as its documentation shows them. Run by sdk_test.py.
const assert = require('node:assert')
const { createRequire } = require('node:module')
const e2b = createRequire(process.env.E2B_NODE_MODULES + '/')('e2b')
const { CommandExitError, NotFoundError, Sandbox, SandboxNotFoundError, TimeoutError } = e2b

async function commands(sandbox) {
  const result = await sandbox.commands.run('echo hello $FOO; echo oops >&2')
  assert.deepEqual([result.stdout, result.stderr, result.exitCode], ['hello bar\n', 'oops\n', 0])
  await assert.rejects(sandbox.commands.run('exit 3'), (e) => e instanceof CommandExitError && e.exitCode === 3)

  const pieces = []
  const slow = 'for i in 1 2 3; do echo $i; sleep 0.05; done'
  await sandbox.commands.run(slow, { onStdout: (piece) => pieces.push(piece) })
  assert.equal(pieces.join(''), '1\n2\n3\n')

  const reader = await sandbox.commands.run('cat; echo done', { background: true, stdin: true })
  await sandbox.commands.sendStdin(reader.pid, 'typed\n')
  await sandbox.commands.closeStdin(reader.pid)
  assert.equal((await reader.wait()).stdout, 'typed\ndone\n')

  const sleeper = await sandbox.commands.run('sleep 100', { background: true })
  assert((await sandbox.commands.list()).some((process) => process.pid === sleeper.pid))
  const again = await sandbox.commands.connect(sleeper.pid)
  assert(await sleeper.kill())
  await assert.rejects(sleeper.wait(), CommandExitError)
  await assert.rejects(again.wait(), CommandExitError)
  assert.equal(await sandbox.commands.kill(sleeper.pid), false)
}

async function files(sandbox) {
  const written = await sandbox.files.write('/tmp/new/folder/a.txt', 'content ü')
  assert.equal(written.path, '/tmp/new/folder/a.txt')
  assert.equal(await sandbox.files.read('/tmp/new/folder/a.txt'), 'content ü')
  await sandbox.files.write([{ path: 'x.txt', data: 'x' }, { path: 'y.txt', data: new Blob(['y']) }])
  assert.equal(await sandbox.files.read('/home/user/x.txt'), 'x')
  assert.equal(Buffer.from(await sandbox.files.read('y.txt', { format: 'bytes' })).toString(), 'y')
  const large = '0123456789'.repeat(500_000)
  await sandbox.files.write('large', large)
  assert.equal(await sandbox.files.read('large'), large)
  assert.equal((await sandbox.files.getInfo('large')).size, large.length)
  const names = (await sandbox.files.list('/home/user')).map((entry) => entry.name)
  assert.deepEqual(names, ['large', 'x.txt', 'y.txt'])
  assert.equal(await sandbox.files.makeDir('d/e'), true)
  assert.equal(await sandbox.files.makeDir('d/e'), false)
  await sandbox.files.rename('x.txt', 'd/moved.txt')
  assert(await sandbox.files.exists('d/moved.txt'))
  await sandbox.files.remove('d')
  assert.equal(await sandbox.files.exists('d'), false)
  await assert.rejects(sandbox.files.read('no/such/file'), NotFoundError)
}

// What getHost() names is reached over plain HTTP; the name may not resolve here, so it is said.
async function ports(sandbox) {
  await sandbox.commands.run('exec python3 -m http.server 8000', { background: true })
  const host = sandbox.getHost(8000)
  assert.match(host, new RegExp(`^8000-${sandbox.sandboxId}\\.localhost:\\d+$`))
  const get = () => new Promise((resolve, reject) => {
    const url = new URL(process.env.E2B_API_URL)
    const options = { host: url.hostname, port: url.port, path: '/', headers: { Host: host } }
    require('node:http').get(options, (response) => resolve(response.resume().statusCode)).on('error', reject)
  })
  while ((await get()) !== 200);
}

async function lifetime(sandbox) {
  const info = await sandbox.getInfo()
  assert.deepEqual(info.metadata, { 'purpose 1': 'a&b' })
  await sandbox.setTimeout(300_000)
  assert((await sandbox.getInfo()).endAt - info.endAt > 100_000)
  const found = await Sandbox.list({ query: { metadata: { 'purpose 1': 'a&b' } } }).nextItems()
  assert(found.some((listed) => listed.sandboxId === sandbox.sandboxId))
  const connected = await Sandbox.connect(sandbox.sandboxId)
  assert.equal((await connected.commands.run('echo 2')).stdout, '2\n')
}

async function end(sandbox) {
  const running = await sandbox.commands.run('sleep 100', { background: true })
  const ended = assert.rejects(running.wait(), TimeoutError)
  assert(await sandbox.isRunning())
  assert.equal(await sandbox.kill(), true)
  await ended
  assert.equal(await sandbox.isRunning(), false)
  assert.equal(await sandbox.kill(), false)
  await assert.rejects(Sandbox.connect(sandbox.sandboxId), SandboxNotFoundError)
  await assert.rejects(sandbox.setTimeout(1000), SandboxNotFoundError)
  await assert.rejects(Sandbox.create('no-such-template'), /no-such-template/)
}

async function main() {
  const options = { metadata: { 'purpose 1': 'a&b' }, envs: { FOO: 'bar' }, timeoutMs: 120_000 }
  const sandbox = await Sandbox.create(options)
  for (const part of [commands, files, ports, lifetime, end]) await part(sandbox)
  console.log('as E2B has it')
  process.exit(0)
}

main().catch((e) => {
  console.error(e)
  process.exit(1)
})
