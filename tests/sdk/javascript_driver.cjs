// Every method of E2B's JavaScript SDK against e2b-local; see sdk_test.py.
//
// Prints a line for each case. Ends with 1 if one failed, or if the SDK has a method that neither
// ran nor stands in NOT_APPLICABLE with its reason.
const { e2b, cases } = require('./javascript_cases.cjs')
const { onOneSandbox, alone } = require('./javascript_life.cjs')
const { Seen } = require('./javascript_watch.cjs')

const MCP = "the MCP gateway is a program of E2B's own templates"
const WITHIN = 'private: called by the others'
const NOT_APPLICABLE = {
  'Sandbox.getMcpToken': MCP,
  'Sandbox.getMcpUrl': MCP,
}
const PRIVATE = {
  'Sandbox static': ['connectSandbox', 'createSandbox', 'forkSandbox', 'resolveOpts'],
  Sandbox: ['fileUrl', 'resolveApiOpts'],
  Commands: ['start'],
  CommandHandle: ['flushDecoders', 'handleEvents', 'iterateEvents'],
  WatchHandle: ['handleEvents', 'iterateEvents'],
  Git: ['getRemoteUrl', 'hasUpstream', 'resolveRemoteName', 'runGit', 'runShell', 'withRemoteCredentials'],
  SandboxPaginator: ['updatePagination'],
  SnapshotPaginator: ['updatePagination'],
}
for (const [label, names] of Object.entries(PRIVATE)) {
  for (const name of names) NOT_APPLICABLE[`${label}.${name}`] = WITHIN
}

// What the runtime does not serve yet; while there is any, methods that never ran are no failure.
const LATER = []

// Classes that are not exported are met as objects.
async function meetClasses(seen, sandbox) {
  const add = (object, label) => seen.add(Object.getPrototypeOf(object), label)
  add(sandbox, 'Sandbox')
  add(sandbox.commands, 'Commands')
  add(sandbox.files, 'Filesystem')
  add(sandbox.pty, 'Pty')
  add(sandbox.git, 'Git')
  add(e2b.Sandbox.list(), 'SandboxPaginator')
  add(e2b.Sandbox.listSnapshots(), 'SnapshotPaginator')
  const command = await sandbox.commands.run('true', { background: true })
  add(command, 'CommandHandle')
  await command.wait()
  if (!LATER.includes('watch')) {
    const watch = await sandbox.files.watchDir('/tmp', () => {})
    add(watch, 'WatchHandle')
    await watch.stop()
  }
}

async function main() {
  const seen = new Seen()
  const options = { metadata: { 'purpose 1': 'a&b' }, envs: { FOO: 'bar' }, timeoutMs: 120_000 }
  const plain = await e2b.Sandbox.create('base', options)
  await meetClasses(seen, plain)
  seen.add(e2b.Sandbox, 'Sandbox static')
  const Sandbox = seen.watch(e2b.Sandbox, 'Sandbox static')
  const sandbox = seen.wrap(plain)
  let failed = 0
  for (const one of [...cases, ...onOneSandbox, ...alone]) {
    if (LATER.includes(one.name)) continue
    const begun = Date.now()
    try {
      await (alone.includes(one) ? one(Sandbox) : one(sandbox, Sandbox))
      console.log(`passed ${one.name} in ${(Date.now() - begun) / 1000} s`)
    } catch (e) {
      failed++
      console.log(`FAILED ${one.name}`, e)
    }
  }
  const [missing, needless] = seen.missing(NOT_APPLICABLE)
  for (const what of missing) console.log(`never ran: ${what}`)
  for (const what of needless) console.log(`ran, or is not there, so it needs no excuse: ${what}`)
  process.exit(failed || (!LATER.length && (missing.length || needless.length)) ? 1 : 0)
}

main().catch((e) => {
  console.error(e)
  process.exit(1)
})
