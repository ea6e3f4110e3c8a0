// Knex over node-postgres.
import knex from 'knex'
import { assert, check, email1, email2, env, fails, ssn1, ssn2, ssn3, tlsOptions, tlsURL, token, version, when } from './check.js'

version('knex')
const open = (connectionString, more = {}) => knex({ client: 'pg', connection: { connectionString, ...more }, pool: { min: 0, max: 3 } })
const db = open(env.url)
const table = 'drivers_knex'
await check('connect', () => db.raw('SELECT 1'))
await check('schema', async () => {
  await db.schema.dropTableIfExists(table)
  await db.schema.createTable(table, (t) => { t.increments(); t.string('name').unique(); t.integer('n'); t.decimal('price', 12, 4); t.boolean('on'); t.timestamp('at'); t.uuid('key'); t.jsonb('data'); t.specificType('tags', 'text[]') })
  await db.schema.alterTable(table, (t) => t.text('note'))
  assert.equal(await db.schema.hasColumn(table, 'note'), true)
  assert.equal(Object.keys(await db(table).columnInfo()).length, 10)
})
const thing = { name: 'a\'\\"', n: -5, price: '12345.6789', on: true, at: when, key: '01020304-0506-0708-090a-0b0c0d0e0f10', data: { a: [1, null] }, tags: ['x,y', '"'], note: null }
await check('insert', async () => assert.deepEqual((await db(table).insert(thing).returning('*'))[0], { id: 1, ...thing }))
await check('batch', () => db.batchInsert(table, Array.from({ length: 100 }, (_, i) => ({ name: 'row ' + i, n: i })), 30))
await check('parameter', async () => {
  for (let i = 0; i < 12; i++) assert.equal((await db.raw('SELECT ?::text || ?::int4 AS v', ['sent-marker', i])).rows[0].v, 'sent-marker' + i)
})
await check('upsert', () => db(table).insert({ name: 'row 1', n: 77 }).onConflict('name').merge())
await check('transaction', async () => {
  await fails(() => db.transaction(async (tx) => {
    await tx(table).where('n', '>', 0).del()
    await fails(() => tx.transaction((inner) => inner.raw('SELECT 1 / ?::int', [0])))
    throw new Error('back')
  }))
  assert.equal(Number((await db(table).count('* as n'))[0].n), 101)
})
await check('cancel', async () => {
  const e = await fails(() => db.raw('SELECT pg_sleep(20)').timeout(300, { cancel: true }))
  assert.match(e.message, /timeout/)
})
await check('stream', async () => { let n = 0; for (const r of await db(table).select('id')) n += r.id ? 1 : 0; assert.equal(n, 101) })
await check('error.position', async () => {
  const e = await fails(() => db.raw('SELECT 1 + no_such_column'))
  assert.equal(`${e.code} ${e.position}`, '42703 12')
})
await check('drop', () => db.schema.dropTable(table))
await db.destroy()

if (env.support) {
  await check('tls', async () => { const d = open(tlsURL(), { ssl: tlsOptions() }); await d.raw('SELECT 1'); await d.destroy() })
  const [app, support, analyst, backing] = [open(env.url), open(env.support), open(env.analyst), open(env.backing)]
  let one
  await check('protected.insert', async () => {
    await app('people').del()
    const rows = await app('people').insert([{ name: 'One', email: email1, ssn: ssn1 }, { name: 'Two', ssn: ssn2 }, { name: 'Three' }]).returning('*')
    one = rows[0]
    assert.equal(`${one.ssn} ${rows[1].ssn} ${rows[2].ssn}`, `${ssn1} ${ssn2} null`)
    await app('pets').insert({ person_id: one.id, name: 'Rex' })
  })
  await check('protected.find', async () => assert.equal((await app('people').where({ ssn: ssn1 }).first()).email, email1))
  await check('protected.in', async () => assert.equal((await app('people').whereIn('ssn', [ssn1, ssn2]).orderBy('id').limit(5)).length, 2))
  await check('protected.join', async () => assert.equal((await app('pets').join('people', 'people.id', 'pets.person_id').where('people.ssn', ssn1).select('pets.name', 'people.ssn'))[0].ssn, ssn1))
  await check('protected.count', async () => assert.equal(Number((await app('people').countDistinct('ssn as n'))[0].n), 2))
  await check('protected.pluck', async () => assert.deepEqual(await app('people').where('id', one.id).pluck('ssn'), [ssn1]))
  await check('protected.update', async () => assert.equal((await app('people').where({ ssn: ssn1 }).update({ ssn: ssn3, email: email2 }, ['ssn']))[0].ssn, ssn3))
  await check('protected.upsert', () => app('people').insert({ id: one.id, name: 'One', ssn: ssn1 }).onConflict('id').merge({ ssn: ssn1 }))
  await check('protected.upsert_excluded', () => app('people').insert({ id: one.id, name: 'One', ssn: ssn1 }).onConflict('id').merge())
  const ssn = async (db) => (await db('people').where({ id: one.id }).first('ssn')).ssn
  await check('protected.masked', async () => assert.equal(await ssn(support), '***-**-9998'))
  await check('protected.token', async () => {
    const t = await ssn(analyst)
    assert.match(t, token)
    assert.equal(await ssn(backing), t)
  })
  await check('protected.invalid', async () => {
    const e = await fails(() => app('people').update({ ssn: '219-09-99x8' }))
    assert.equal(e.code, '22P02')
    assert.ok(!e.message.includes('219-09'), 'the error repeats the value')
  })
  await check('protected.columns', async () => assert.equal(Object.keys(await app('people').columnInfo()).length, 7))
  await check('protected.delete', () => app('people').del())
  for (const d of [app, support, analyst, backing]) await d.destroy()
}
