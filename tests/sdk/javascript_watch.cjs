// Drives the SDK through objects that note which of its methods ran. The SDK itself is not touched:
// what its classes give is wrapped.

// What the classes of the SDK expose. Some are not exported, so they are taken from their objects;
// what TypeScript calls private is there too and named in `internals`.
function methods(prototype) {
  const names = new Set()
  for (let p = prototype; p && p !== Object.prototype && p !== Function.prototype; p = Object.getPrototypeOf(p)) {
    for (const name of Object.getOwnPropertyNames(p)) {
      const property = Object.getOwnPropertyDescriptor(p, name)
      if (name !== 'constructor' && (property.get || typeof property.value === 'function')) names.add(name)
    }
  }
  return names
}

class Seen {
  constructor() {
    this.labels = new Map() // prototype -> the name it goes by in the table
    this.ran = new Set()
  }

  add(prototype, label) {
    this.labels.set(prototype, label)
  }

  wrap(value) {
    if (Array.isArray(value)) return value.map((item) => this.wrap(item))
    const label = value && typeof value === 'object' && this.labels.get(Object.getPrototypeOf(value))
    return label ? this.watch(value, label) : value
  }

  watch(target, label) {
    return new Proxy(target, {
      get: (_, name) => {
        const value = Reflect.get(target, name, target)
        if (typeof value !== 'function') {
          this.ran.add(`${label}.${String(name)}`)
          return this.wrap(value)
        }
        return (...args) => {
          const result = value.apply(target, args)
          const done = (given) => {
            this.ran.add(`${label}.${String(name)}`)
            return this.wrap(given)
          }
          return result instanceof Promise ? result.then(done) : done(result)
        }
      },
    })
  }

  // [what neither ran nor is excused, excuses that are not needed (any more)]
  missing(excuses) {
    const exposed = []
    for (const [prototype, label] of this.labels) {
      for (const name of methods(prototype)) exposed.push(`${label}.${name}`)
    }
    const idle = new Set(exposed.filter((what) => !this.ran.has(what)))
    return [[...idle].filter((what) => !(what in excuses)).sort(),
      Object.keys(excuses).filter((what) => !idle.has(what)).sort()]
  }
}

module.exports = { Seen }
