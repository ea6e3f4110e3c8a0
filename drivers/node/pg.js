// node-postgres: queries, named statements, cursors, COPY streams.
import pg from 'pg'
import Cursor from 'pg-cursor'
import copy from 'pg-copy-streams'
import { pipeline } from 'node:stream/promises'
import { Readable } from 'node:stream'
import { assert, check, env, fails, protectedSQL, sleep, ssn1, texts, tlsOptions, tlsURL, version, when } from './check.js'

version('pg')
async function open(url, more = {}) {
  const client = new pg.Client({ connectionString: url, ...more })
  await client.connect()
  return client
}
const client = await open(env.url)
await check('connect', () => client.query('SELECT 1'))
for (const [type, value] of texts)
  await check('types.' + type, async () => assert.equal((await client.query(`SELECT $1::${type}::text AS v`, [value])).rows[0].v, value))
for (const [type, value] of [['bool', true], ['int4', -5], ['float8', 1.5], ['timestamptz', when], ['bytea', Buffer.from([0, 1, 255, 92])], ['json', { a: [1, null] }],
  ['jsonb', { a: 'b' }], ['int4[]', [1, -2, 3]], ['text[]', ['a,b', '"q"', '', null]], ['text', null]])
  await check('types.native.' + (value === null ? 'null' : type), async () => assert.deepEqual((await client.query(`SELECT $1::${type} AS v`, [value])).rows[0].v, value))
await check('types.binary', async () => assert.equal((await client.query({ text: 'SELECT $1::int8 AS v', values: [7], binary: true })).rows[0].v.toString(), '7'))
await check('parameter', async () => {
  for (let i = 0; i < 12; i++) assert.equal((await client.query('SELECT $1::text || $2::int4 AS v', ['sent-marker', i])).rows[0].v, 'sent-marker' + i)
})
await check('prepared', async () => {
  for (let i = 0; i < 12; i++) assert.equal((await client.query({ name: 'plus', text: 'SELECT $1::text || $2::int4 AS v', values: ['sent-marker', i] })).rows[0].v, 'sent-marker' + i)
})
await check('multiple', async () => assert.equal((await client.query('SELECT 1; SELECT 2 AS v'))[1].rows[0].v, 2))
await check('queued', async () => {
  const all = await Promise.all(Array.from({ length: 100 }, (_, i) => client.query('SELECT $1::int4 AS v', [i])))
  all.forEach((r, i) => assert.equal(r.rows[0].v, i))
})
await check('cursor', async () => {
  const cursor = client.query(new Cursor('SELECT g FROM generate_series(1, $1::int4) g', [250]))
  let n = 0
  for (let rows; (rows = await cursor.read(100)).length; ) n += rows.length
  await cursor.close()
  assert.equal(n, 250)
})
await check('cursor.closed_early', async () => {
  const cursor = client.query(new Cursor('SELECT g FROM generate_series(1, 1000) g'))
  await cursor.read(10)
  await cursor.close()
  await client.query('SELECT 1')
})
await check('copy', async () => {
  await client.query('CREATE TEMP TABLE copied (id int, note text)')
  await pipeline(Readable.from(Array.from({ length: 10000 }, (_, i) => `${i}\tnote\n`)), client.query(copy.from('COPY copied FROM STDIN')))
  let bytes = ''
  await pipeline(client.query(copy.to('COPY (SELECT id FROM copied ORDER BY id LIMIT 3) TO STDOUT')), async (source) => { for await (const c of source) bytes += c })
  assert.equal(bytes, '0\n1\n2\n')
  assert.equal((await client.query('SELECT count(*)::int AS n FROM copied')).rows[0].n, 10000)
})
await check('copy.error', async () => {
  const e = await fails(() => pipeline(Readable.from(['x\ty\n']), client.query(copy.from('COPY copied FROM STDIN'))))
  assert.equal(e.code, '22P02')
})
await check('transaction', async () => {
  await client.query('CREATE TEMP TABLE kept (id int)')
  await client.query('BEGIN')
  await client.query('INSERT INTO kept VALUES ($1)', [1])
  await client.query('SAVEPOINT s')
  assert.equal((await fails(() => client.query('SELECT 1 / $1::int', [0]))).code, '22012')
  assert.equal((await fails(() => client.query('SELECT 1'))).code, '25P02')
  await client.query('ROLLBACK TO s')
  await client.query('COMMIT')
  await client.query('BEGIN')
  await client.query('DELETE FROM kept')
  await client.query('ROLLBACK')
  assert.equal((await client.query('SELECT count(*)::int AS n FROM kept')).rows[0].n, 1)
})
await check('cancel', async () => {
  const slow = client.query('SELECT pg_sleep(20)')
  setTimeout(() => {
    const c = new pg.Connection({})
    c.once('connect', () => c.cancel(client.processID, client.secretKey))
    c.connect(client.port, client.host)
    c.on('error', () => {})
  }, 300)
  assert.equal((await fails(() => slow)).code, '57014')
})
await check('statement_timeout', async () => {
  const other = await open(env.url, { statement_timeout: 100 })
  assert.equal((await fails(() => other.query('SELECT pg_sleep(5)'))).code, '57014')
  await other.end()
})
await check('listen', async () => {
  const got = new Promise((done) => client.once('notification', (n) => done(n.payload)))
  await client.query('LISTEN drivers_pg')
  const other = await open(env.url)
  await other.query("SELECT pg_notify('drivers_pg', $1)", ['told'])
  await other.end()
  assert.equal(await Promise.race([got, sleep(5000)]), 'told')
})
await check('notice', async () => {
  const got = new Promise((done) => client.once('notice', (n) => done(n.message)))
  await client.query("DO $$ BEGIN RAISE NOTICE 'noted'; END $$")
  assert.equal(await Promise.race([got, sleep(5000)]), 'noted')
})
await check('error.position', async () => {
  const e = await fails(() => client.query('SELECT 1 + no_such_column'))
  assert.equal(`${e.code} ${e.position}`, '42703 12')
})
await check('error.detail', async () => {
  await client.query('CREATE TEMP TABLE uniques (id int PRIMARY KEY); INSERT INTO uniques VALUES (1)')
  const e = await fails(() => client.query('INSERT INTO uniques VALUES ($1)', [1]))
  assert.equal(`${e.code} ${e.constraint} ${e.detail}`, '23505 uniques_pkey Key (id)=(1) already exists.')
})
await check('large', async () => assert.equal((await client.query('SELECT $1::text AS v', ['x'.repeat(8 << 20)])).rows[0].v.length, 8 << 20))
await client.end()

if (env.support) {
  await check('tls', async () => (await open(tlsURL(), { ssl: tlsOptions() })).end())
  const clients = { app: await open(env.url), support: await open(env.support), analyst: await open(env.analyst), backing: await open(env.backing) }
  await protectedSQL(clients, async (c, text, params) => (await c.query(text, params)).rows)
  await check('protected.prepared', async () => {
    await clients.app.query({ name: 'ins', text: 'INSERT INTO people (name, ssn) VALUES ($1, $2)', values: ['Named', ssn1] })
    for (let i = 0; i < 12; i++)
      assert.equal((await clients.app.query({ name: 'find', text: 'SELECT ssn FROM people WHERE ssn = $1', values: [ssn1] })).rows[0].ssn, ssn1)
  })
  await check('protected.literals', async () => assert.equal((await clients.app.query(`SELECT ssn FROM people WHERE ssn = ${pg.escapeLiteral(ssn1)}`)).rows.length, 1))
  await check('protected.cursor', async () => {
    const cursor = clients.app.query(new Cursor('SELECT ssn FROM people WHERE ssn = $1', [ssn1]))
    assert.equal((await cursor.read(10))[0].ssn, ssn1)
    await cursor.close()
  })
  await check('protected.clean', () => clients.app.query('DELETE FROM people'))
  for (const c of Object.values(clients)) await c.end()
}
