// postgres.js: tagged templates, pipelining, cursors, COPY, LISTEN.
import postgres from 'postgres'
import { pipeline } from 'node:stream/promises'
import { Readable } from 'node:stream'
import { assert, check, email1, env, fails, protectedSQL, sleep, ssn1, ssn2, texts, tlsOptions, tlsURL, version, when } from './check.js'

version('postgres')
const open = (url, more = {}) => postgres(url.replace(/\?.*/, ''), { onnotice: () => {}, max: 2, ...more })
const sql = open(env.url)
await check('connect', () => sql`SELECT 1`)
for (const [type, value] of texts)
  await check('types.' + type, async () => assert.equal((await sql`SELECT ${value}::text::${sql.unsafe(type)}::text AS v`)[0].v, value))
for (const [type, value] of [['bool', true], ['int4', -5], ['float8', 1.5], ['timestamptz', when], ['bytea', Buffer.from([0, 1, 255, 92])], ['json', { a: [1, null] }],
  ['jsonb', { a: 'b' }], ['int4[]', [1, -2, 3]], ['text[]', ['a,b', '"q"', '']], ['text', null]])
  await check('types.native.' + (value === null ? 'null' : type), async () => assert.deepEqual((await sql.unsafe(`SELECT $1::${type} AS v`, [value]))[0].v, value))
await check('parameter', async () => {
  for (let i = 0; i < 12; i++) assert.equal((await sql`SELECT ${'sent-marker'}::text || ${i}::int4 AS v`)[0].v, 'sent-marker' + i)
})
await check('unprepared', async () => {
  const other = open(env.url, { prepare: false })
  for (let i = 0; i < 12; i++) assert.equal((await other`SELECT ${'sent-marker'}::text || ${i}::int4 AS v`)[0].v, 'sent-marker' + i)
  await other.end()
})
await check('pipeline', async () => {
  const all = await Promise.all(Array.from({ length: 200 }, (_, i) => sql`SELECT ${i}::int4 AS v`))
  all.forEach((r, i) => assert.equal(r[0].v, i))
})
await check('pipeline.error', async () => {
  const all = await Promise.allSettled(Array.from({ length: 20 }, (_, i) => sql`SELECT 1 / ${i % 3}::int4 AS v`))
  assert.equal(all.filter((r) => r.status === 'rejected' && r.reason.code === '22012').length, 7)
})
await check('simple', async () => assert.equal((await sql`SELECT 1; SELECT 2 AS v`.simple())[1][0].v, 2))
await check('cursor', async () => {
  let n = 0
  for await (const rows of sql`SELECT g FROM generate_series(1, 250) g`.cursor(100)) n += rows.length
  assert.equal(n, 250)
})
await check('copy', async () => {
  await sql`CREATE TABLE IF NOT EXISTS drivers_postgresjs (id int, note text)`
  await pipeline(Readable.from(Array.from({ length: 10000 }, (_, i) => `${i}\tnote\n`)), await sql`COPY drivers_postgresjs FROM STDIN`.writable())
  let bytes = ''
  for await (const c of await sql`COPY (SELECT id FROM drivers_postgresjs ORDER BY id LIMIT 3) TO STDOUT`.readable()) bytes += c
  assert.equal(bytes, '0\n1\n2\n')
  await sql`DROP TABLE drivers_postgresjs`
})
await check('transaction', async () => {
  await sql`CREATE TABLE IF NOT EXISTS drivers_postgresjs_kept (id int)`
  await sql.begin(async (tx) => {
    await tx`INSERT INTO drivers_postgresjs_kept VALUES (${1})`
    const e = await fails(() => tx.savepoint((s) => s`SELECT 1 / ${0}::int`))
    assert.equal(e.code, '22012')
  })
  await fails(() => sql.begin(async (tx) => { await tx`DELETE FROM drivers_postgresjs_kept`; throw new Error('back') }))
  assert.equal((await sql`SELECT count(*)::int AS n FROM drivers_postgresjs_kept`)[0].n, 1)
  await sql`DROP TABLE drivers_postgresjs_kept`
})
await check('cancel', async () => {
  const slow = sql`SELECT pg_sleep(20)`
  setTimeout(() => slow.cancel(), 300)
  assert.equal((await fails(() => slow)).code, '57014')
})
await check('listen', async () => {
  let told
  const got = new Promise((done) => (told = done))
  await sql.listen('drivers_postgresjs', told)
  await sql.notify('drivers_postgresjs', 'told')
  assert.equal(await Promise.race([got, sleep(5000)]), 'told')
})
await check('error.position', async () => {
  const e = await fails(() => sql`SELECT 1 + no_such_column`)
  assert.equal(`${e.code} ${e.position}`, '42703 12')
})
await check('large', async () => assert.equal((await sql`SELECT ${'x'.repeat(8 << 20)}::text AS v`)[0].v.length, 8 << 20))
await sql.end()

if (env.support) {
  await check('tls', async () => { const s = open(tlsURL(), { ssl: tlsOptions() }); await s`SELECT 1`; await s.end() })
  const clients = { app: open(env.url), support: open(env.support), analyst: open(env.analyst), backing: open(env.backing) }
  const app = clients.app
  await protectedSQL(clients, (c, text, params) => c.unsafe(text, params, { prepare: true }))
  await check('protected.helpers', async () => {
    const people = [{ name: 'One', email: email1, ssn: ssn1 }, { name: 'Two', email: null, ssn: ssn2 }]
    const rows = await app`INSERT INTO people ${app(people, 'name', 'email', 'ssn')} RETURNING id, ssn`
    assert.equal(rows[1].ssn, ssn2)
    assert.equal((await app`SELECT name FROM people WHERE ssn IN ${app([ssn1, ssn2])}`).length, 2)
    await app`UPDATE people SET ${app({ ssn: '512-34-0001' }, 'ssn')} WHERE id = ${rows[0].id}`
  })
  await check('protected.pipeline', async () => {
    const all = await Promise.all(Array.from({ length: 50 }, () => app`SELECT name FROM people WHERE ssn = ${ssn2}`))
    for (const r of all) assert.equal(r[0].name, 'Two')
  })
  await check('protected.cursor', async () => {
    for await (const [row] of app`SELECT ssn FROM people WHERE ssn = ${ssn2}`.cursor(1)) assert.equal(row.ssn, ssn2)
  })
  await check('protected.clean', () => app`DELETE FROM people`)
  for (const c of Object.values(clients)) await c.end()
}
