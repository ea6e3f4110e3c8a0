// What the Node programs of the driver matrix share: check runs one check and prints `ok NAME` or `not ok NAME: reason`.
// The environment says what to connect to, as in ../go/check.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import assert from 'node:assert/strict'

export { assert }
export const env = {
  url: process.env.DRIVERS_URL,
  support: process.env.DRIVERS_SUPPORT_URL,
  analyst: process.env.DRIVERS_ANALYST_URL,
  backing: process.env.DRIVERS_BACKING_URL,
  ca: process.env.DRIVERS_CA,
}
export const [ssn1, ssn2, ssn3] = ['219-09-9998', '457-55-5462', '512-34-7788']
export const [email1, email2] = ['planted.one@example.com', 'planted.two@example.org']
export const token = /^[A-Z]{3}-[0-9]{2}-[0-9]{4}$/

// The types that every driver sends as text and reads back by a cast to text, and those with a value of JavaScript's own.
export const texts = [
  ['int2', '-32768'], ['int4', '2147483647'], ['int8', '-9223372036854775808'], ['numeric', '-1234567890123.4567'], ['float4', '1.5'], ['float8', '1e-300'],
  ['text', 'Grüße \\ \' " 🐘'], ['date', '2024-02-29'], ['timestamp', '2024-02-29 12:34:56.789012'], ['uuid', '01020304-0506-0708-090a-0b0c0d0e0f10'],
]
export const when = new Date('2024-02-29T12:34:56.789Z')

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms))

export function version(name) {
  const require = createRequire(import.meta.url)
  let path
  try {
    path = require.resolve(name + '/package.json')
  } catch {
    path = new URL(`node_modules/${name}/package.json`, import.meta.url)
  }
  console.log('# version', name, JSON.parse(readFileSync(path)).version)
}

// tlsURL is the URL with the host that the certificate is for.
export const tlsURL = () => env.url.replace(/127\.0\.0\.1/, 'localhost').replace(/\?.*/, '')
export const tlsOptions = () => ({ ca: readFileSync(env.ca, 'utf8'), rejectUnauthorized: true })

export async function check(name, f) {
  try {
    await f()
    console.log('ok', name)
  } catch (e) {
    console.log(`not ok ${name}: ${String(e?.cause?.message ?? e?.message ?? e).replace(/\s+/g, ' ')}`)
    process.exitCode = 1
  }
}

// fails gives the error that f ends with.
export async function fails(f) {
  try {
    await f()
  } catch (e) {
    return e
  }
  throw new Error('no error')
}

// protectedSQL runs the checks of the protected table with plain SQL. query(client, text, params) gives rows as objects; clients are app, support,
// analyst and backing.
export async function protectedSQL(clients, query, state = (e) => e.code) {
  const { app, support, analyst, backing } = clients
  let id
  const ssn = async (client) => (await query(client, 'SELECT ssn FROM people WHERE id = $1', [id]))[0].ssn
  await check('protected.insert', async () => {
    await query(app, 'DELETE FROM people', [])
    const rows = await query(app, 'INSERT INTO people (name, email, ssn) VALUES ($1, $2, $3) RETURNING id', ['One', email1, ssn1])
    id = rows[0].id
  })
  await check('protected.read', async () => assert.equal(await ssn(app), ssn1))
  await check('protected.find', async () => {
    for (let i = 0; i < 12; i++) assert.equal((await query(app, 'SELECT name FROM people WHERE ssn = $1', [ssn1]))[0].name, 'One')
  })
  await check('protected.in', async () => assert.equal((await query(app, 'SELECT name FROM people WHERE ssn IN ($1, $2)', [ssn1, ssn3])).length, 1))
  await check('protected.any', async () => assert.equal((await query(app, 'SELECT name FROM people WHERE ssn = ANY($1)', [[ssn1, ssn3]])).length, 1))
  await check('protected.update', async () => {
    await query(app, 'UPDATE people SET ssn = $1 WHERE ssn = $2', [ssn2, ssn1])
    assert.equal(await ssn(app), ssn2)
  })
  await check('protected.masked', async () => assert.equal(await ssn(support), '***-**-5462'))
  await check('protected.token', async () => {
    const t = await ssn(analyst)
    assert.match(t, token)
    assert.equal(await ssn(backing), t)
  })
  await check('protected.invalid', async () => {
    const e = await fails(() => query(app, 'UPDATE people SET ssn = $1', ['219-09-99x8']))
    assert.equal(state(e), '22P02')
    assert.ok(!/219-09/.test(e.message.replace(/params: .*/s, '')), 'the error repeats the value')
  })
  await check('protected.delete', () => query(app, 'DELETE FROM people WHERE ssn = $1', [ssn2]))
}
