// What E2B's JavaScript SDK can do inside a sandbox, each method once: see javascript_driver.cjs.
const assert = require('node:assert')
const http = require('node:http')
const { createRequire } = require('node:module')
const e2b = createRequire(process.env.E2B_NODE_MODULES + '/')('e2b')
const { CommandExitError, FileNotFoundError, FileType, FilesystemEventType, NotFoundError, SandboxError, TimeoutError } = e2b

// The status of a preview's answer; its name need not resolve here.
function fetchStatus(host, headers = {}) {
  const url = new URL(process.env.E2B_API_URL)
  const options = { host: url.hostname, port: url.port, path: '/', headers: { Host: host, ...headers } }
  return new Promise((resolve, reject) => {
    http.get(options, (response) => resolve(response.resume().statusCode)).on('error', reject)
  })
}

async function until(condition, what = 'it') {
  for (const end = Date.now() + 20_000; !(await condition()); ) {
    assert(Date.now() < end, `${what} did not come true`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

async function run(sandbox) {
  const said = { out: '', err: '' }
  const result = await sandbox.commands.run('pwd; whoami; echo $FOO $MORE; echo oops >&2', {
    envs: { MORE: '2' }, cwd: '/tmp', user: 'user', timeoutMs: 20_000,
    onStdout: (text) => { said.out += text },
    onStderr: (text) => { said.err += text },
  })
  assert.deepEqual([result.stdout, result.stderr, result.exitCode], ['/tmp\nuser\nbar 2\n', 'oops\n', 0])
  assert.deepEqual(said, { out: result.stdout, err: result.stderr })
  await assert.rejects(sandbox.commands.run('echo no; exit 3'),
    (e) => e instanceof CommandExitError && e.exitCode === 3 && e.stdout === 'no\n')
  await assert.rejects(sandbox.commands.run('sleep 100', { timeoutMs: 300 }), TimeoutError)
  const asRoot = sandbox.commands.run('id -un', { user: 'root' })
  if (process.env.E2B_LOCAL_TIER === 'A') assert.equal((await asRoot).stdout, 'root\n')
  else await assert.rejects(asRoot, /'root' is not to be had/)
}

async function background(sandbox) {
  const sleeper = await sandbox.commands.run('sleep 100', { background: true })
  assert((await sandbox.commands.list()).some((process) => process.pid === sleeper.pid))
  const again = await sandbox.commands.connect(sleeper.pid, { onStdout: () => {}, timeoutMs: 20_000 })
  await (await sandbox.commands.connect(sleeper.pid)).disconnect()
  assert(await sleeper.kill())
  await assert.rejects(sleeper.wait(), CommandExitError)
  await assert.rejects(again.wait(), CommandExitError)
  assert.equal(await sandbox.commands.kill(sleeper.pid), false)

  const other = await sandbox.commands.run('sleep 100', { background: true })
  assert(await sandbox.commands.kill(other.pid))
  await assert.rejects(other.wait(), CommandExitError)
  await assert.rejects(sandbox.commands.connect(999_999), NotFoundError)
}

async function stdin(sandbox) {
  assert(sandbox.commands.supportsStdinClose)
  const reader = await sandbox.commands.run('cat; echo done', { background: true, stdin: true })
  await sandbox.commands.sendStdin(reader.pid, 'typed\n')
  await reader.sendStdin(Buffer.from('ü\n'))
  await sandbox.commands.closeStdin(reader.pid)
  assert.equal((await reader.wait()).stdout, 'typed\nü\ndone\n')
  assert.deepEqual([reader.stdout, reader.stderr, reader.exitCode], ['typed\nü\ndone\n', '', 0])
  assert(!reader.error)
  const other = await sandbox.commands.run('cat', { background: true, stdin: true })
  await other.closeStdin()
  assert.equal((await other.wait()).exitCode, 0)
}

async function pty(sandbox) {
  const shown = ['', '']
  const show = (n) => (data) => { shown[n] += Buffer.from(data).toString() }
  const first = await sandbox.pty.create({
    cols: 80, rows: 24, onData: show(0), user: 'user', cwd: '/tmp', envs: { PLACE: 'here' }, timeoutMs: 30_000,
  })
  await sandbox.pty.resize(first.pid, { cols: 100, rows: 40 })
  const other = await sandbox.pty.connect(first.pid, { onData: show(1), timeoutMs: 20_000 })
  await sandbox.pty.sendInput(first.pid, Buffer.from('stty size; pwd; echo $PLACE-$TERM\nexit\n'))
  await Promise.all([first.wait(), other.wait()])
  for (const text of shown) {
    assert(/40 100/.test(text) && /\/tmp/.test(text) && /here-xterm-256color/.test(text), text)
  }
  const ended = await sandbox.pty.create({ cols: 80, rows: 24, onData: () => {} })
  assert(await sandbox.pty.kill(ended.pid))
  await assert.rejects(ended.wait(), CommandExitError)
  assert.equal(await sandbox.pty.kill(ended.pid), false)
}

async function writeAndRead(sandbox) {
  const { files } = sandbox
  const written = await files.write('/tmp/new/folder/a.txt', 'content ü', { user: 'user' })
  assert.deepEqual([written.path, written.name, written.type], ['/tmp/new/folder/a.txt', 'a.txt', FileType.FILE])
  const path = '/tmp/new/folder/a.txt'
  assert.equal(await files.read(path, { user: 'user' }), 'content ü')
  assert.equal(Buffer.from(await files.read(path, { format: 'bytes' })).toString(), 'content ü')
  assert.equal(await (await files.read(path, { format: 'blob' })).text(), 'content ü')
  assert.equal(await new Response(await files.read(path, { format: 'stream' })).text(), 'content ü')

  const block = require('node:crypto').randomBytes(100_000)
  const kinds = [block.buffer.slice(block.byteOffset, block.byteOffset + block.length), new Blob([block]), new Blob([block]).stream()]
  for (const data of kinds) {
    await files.write('kind', data)
    assert(block.equals(await files.read('kind', { format: 'bytes' })), data.constructor.name)
  }
  for (const extra of [{ gzip: true }, { useOctetStream: true }, { useOctetStream: false }]) {
    await files.write('packed', new Blob([block]), extra)
    assert(block.equals(await files.read('packed', { format: 'bytes', gzip: true })), JSON.stringify(extra))
  }
  const many = await files.writeFiles([{ path: 'x.txt', data: 'x' }, { path: 'y.txt', data: new Blob(['y']) }])
  assert.deepEqual(many.map((w) => w.path), ['/home/user/x.txt', '/home/user/y.txt'])
  await files.write([{ path: 'x.txt', data: 'xx' }], { metadata: { by: 'several' } })
  assert.equal(await files.read('/home/user/x.txt'), 'xx')
  assert.deepEqual({ ...(await files.getInfo('x.txt')).metadata }, { by: 'several' })
  const large = '0123456789'.repeat(500_000)
  await files.write('large', large)
  assert.equal(await files.read('large'), large)
  await assert.rejects(files.read('no/such/file'), FileNotFoundError)
  await assert.rejects(files.read('/tmp'), SandboxError)
  await assert.rejects(files.write('/tmp', 'a folder'), SandboxError)
}

async function tree(sandbox) {
  const { files } = sandbox
  assert.equal(await files.makeDir('d/e', { user: 'user' }), true)
  assert.equal(await files.makeDir('d/e'), false)
  await files.write('d/e/f.txt', '12345')
  assert.deepEqual((await files.list('d')).map((entry) => entry.name), ['e'])
  assert.deepEqual((await files.list('/home/user/d', { depth: 2 })).map((entry) => [entry.path, entry.type]),
    [['/home/user/d/e', FileType.DIR], ['/home/user/d/e/f.txt', FileType.FILE]])
  const info = await files.getInfo('d/e/f.txt')
  assert.deepEqual([info.size, info.permissions, info.mode, info.owner, info.group],
    [5, '-rw-r--r--', 0o644, 'user', 'user'])
  assert(Math.abs(info.modifiedTime - Date.now()) < 60_000)
  await sandbox.commands.run('ln -s e/f.txt d/link')
  assert.equal((await files.getInfo('d/link')).symlinkTarget, '/home/user/d/e/f.txt')
  assert.equal((await files.rename('d/e/f.txt', 'd/moved.txt')).path, '/home/user/d/moved.txt')
  assert(await files.exists('d/moved.txt'))
  assert.equal(await files.exists('d/e/f.txt'), false)
  await files.remove('d')
  await assert.rejects(files.list('d'), FileNotFoundError)
  await assert.rejects(files.getInfo('d'), FileNotFoundError)
  await assert.rejects(files.rename('d', 'e'), FileNotFoundError)
}

async function watch(sandbox) {
  const events = []
  let ended = 'not yet'
  await sandbox.files.makeDir('watched/inner')
  const handle = await sandbox.files.watchDir('watched', (event) => { events.push(event) }, {
    user: 'user', recursive: true, includeEntry: true, allowNetworkMounts: true, timeoutMs: 30_000,
    onExit: (error) => { ended = error },
  })
  await sandbox.files.write('watched/inner/a.txt', 'a')
  await sandbox.commands.run('chmod 600 watched/inner/a.txt; mv watched/inner/a.txt watched/b.txt; rm watched/b.txt')
  const wanted = [['inner/a.txt', 'CREATE'], ['inner/a.txt', 'WRITE'], ['inner/a.txt', 'CHMOD'], ['inner/a.txt', 'RENAME'],
    ['b.txt', 'CREATE'], ['b.txt', 'REMOVE']]
  await until(() => wanted.every(([name, type]) => events.some(
    (event) => event.name === name && event.type === FilesystemEventType[type])), 'every event')
  assert(events.some((event) => event.entry?.path === '/home/user/watched/inner/a.txt'))
  await handle.stop()
  await until(() => ended !== 'not yet', 'the end')
  await assert.rejects(sandbox.files.watchDir('no/such/folder', () => {}), FileNotFoundError)
}

async function urls(sandbox) {
  const options = { user: 'user', useSignatureExpiration: 60_000 }
  const form = new FormData()
  form.append('file', new Blob(['through a url']), 'by-url.txt')
  const upload = await fetch(await sandbox.uploadUrl('by-url.txt', options), { method: 'POST', body: form })
  assert.equal(upload.status, 200)
  const url = await sandbox.downloadUrl('by-url.txt', options)
  assert.equal(await (await fetch(url)).text(), 'through a url')
  assert.equal((await fetch(url.replace('signature=', 'signature=0'))).status, 401)
}

async function ports(sandbox) {
  await sandbox.commands.run('exec python3 -m http.server -b 127.0.0.1 8000', { background: true })
  const host = sandbox.getHost(8000)
  assert.match(host, new RegExp(`^8000-${sandbox.sandboxId}\\.localhost:\\d+$`))
  await until(async () => (await fetchStatus(host)) === 200, 'the preview')
  assert.equal(await fetchStatus(sandbox.getHost(8001)), 502)
}

async function git(sandbox) {
  const { git } = sandbox
  await git.configureUser('A', 'a@example.com')
  await git.setConfig('pull.rebase', 'false')
  assert.equal(await git.getConfig('user.name'), 'A')
  await git.init('origin.git', { bare: true, initialBranch: 'main' })
  await git.init('work', { initialBranch: 'main' })
  await sandbox.files.write('work/a.txt', '1')
  await git.add('work', { files: ['a.txt'] })
  await git.commit('work', 'first', { authorName: 'C', authorEmail: 'c@example.com' })
  await git.remoteAdd('work', 'origin', '/home/user/origin.git', { overwrite: true })
  assert.equal(await git.remoteGet('work', 'origin'), '/home/user/origin.git')
  await git.push('work', { remote: 'origin', branch: 'main', setUpstream: true })
  await git.clone('file:///home/user/origin.git', { path: 'copy', branch: 'main', depth: 1 })
  assert.equal(await sandbox.files.read('copy/a.txt'), '1')
  await git.createBranch('work', 'topic')
  assert.equal((await git.branches('work')).currentBranch, 'topic')
  await git.checkoutBranch('work', 'main')
  await git.deleteBranch('work', 'topic', { force: true })
  await sandbox.files.write('work/a.txt', '3')
  await git.add('work')
  await git.reset('work', { paths: ['a.txt'] })
  await git.restore('work', { paths: ['a.txt'] })
  assert((await git.status('work')).isClean)
  await git.pull('work', { remote: 'origin', branch: 'main' })
  await git.dangerouslyAuthenticate({ username: 'me', password: 'secret', host: 'git.example.com', protocol: 'https' })
}

module.exports = {
  e2b, fetchStatus, until,
  cases: [run, background, stdin, pty, writeAndRead, tree, watch, urls, ports, git],
}
