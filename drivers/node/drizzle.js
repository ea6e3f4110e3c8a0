// Drizzle over node-postgres, its own query builder and relational queries.
import { drizzle } from 'drizzle-orm/node-postgres'
import { relations, eq, inArray, and, isNotNull, sql, desc, count, countDistinct } from 'drizzle-orm'
import { bigint, bigserial, boolean, doublePrecision, integer, jsonb, numeric, pgTable, serial, text, timestamp, uuid } from 'drizzle-orm/pg-core'
import { assert, check, email1, email2, env, fails, ssn1, ssn2, ssn3, tlsOptions, tlsURL, token, version, when } from './check.js'

version('drizzle-orm')
const things = pgTable('drivers_drizzle', {
  id: serial().primaryKey(), name: text().unique(), n: integer(), price: numeric(), ratio: doublePrecision(), on: boolean(), at: timestamp({ withTimezone: true, mode: 'date' }),
  key: uuid(), data: jsonb(), tags: text().array(),
})
const people = pgTable('people', {
  id: bigserial({ mode: 'number' }).primaryKey(), name: text().notNull(), email: text(), ssn: text(), createdAt: timestamp('created_at', { withTimezone: true }).defaultNow(),
})
const pets = pgTable('pets', { id: bigserial({ mode: 'number' }).primaryKey(), personId: bigint('person_id', { mode: 'number' }), name: text() })
const schema = {
  things, people, pets,
  peopleRelations: relations(people, ({ many }) => ({ pets: many(pets) })),
  petsRelations: relations(pets, ({ one }) => ({ person: one(people, { fields: [pets.personId], references: [people.id] }) })),
}
const open = (url, more = {}) => drizzle({ connection: { connectionString: url, ...more }, schema })
const db = open(env.url)
const cause = (e) => e.cause ?? e
await check('connect', () => db.execute(sql`SELECT 1`))
await check('create', () => db.execute(sql`CREATE TABLE ${things} (id serial PRIMARY KEY, name text UNIQUE, n int, price numeric, ratio float8, "on" bool, at timestamptz, key uuid, data jsonb, tags text[])`))
const thing = { name: 'a\'\\"', n: -5, price: '12345.6789', ratio: 1.5, on: true, at: when, key: '01020304-0506-0708-090a-0b0c0d0e0f10', data: { a: [1, null] }, tags: ['x,y', '"'] }
await check('insert', async () => assert.deepEqual((await db.insert(things).values(thing).returning())[0], { id: 1, ...thing }))
await check('null', async () => assert.equal((await db.insert(things).values({ name: 'null' }).returning())[0].at, null))
await check('parameter', async () => {
  for (let i = 0; i < 12; i++) assert.equal((await db.execute(sql`SELECT ${'sent-marker'}::text || ${i}::int4 AS v`)).rows[0].v, 'sent-marker' + i)
})
await check('prepared', async () => {
  const p = db.select().from(things).where(eq(things.name, sql.placeholder('name'))).prepare('by_name')
  for (let i = 0; i < 12; i++) assert.equal((await p.execute({ name: thing.name })).length, 1)
})
await check('upsert', async () => {
  const rows = await db.insert(things).values({ name: 'null', n: 9 }).onConflictDoUpdate({ target: things.name, set: { n: sql`excluded.n` } }).returning({ n: things.n })
  assert.equal(rows[0].n, 9)
})
await check('relational', async () => assert.equal((await db.query.things.findFirst({ where: eq(things.n, 9) })).name, 'null'))
await check('transaction', async () => {
  await fails(() => db.transaction(async (tx) => {
    await tx.transaction((inner) => inner.delete(things).where(eq(things.n, 9)))
    await fails(() => tx.transaction((inner) => inner.execute(sql`SELECT 1 / ${0}::int`)))
    assert.equal((await tx.select().from(things)).length, 1)
    tx.rollback()
  }))
  assert.equal((await db.select().from(things)).length, 2)
})
await check('error.position', async () => {
  const e = cause(await fails(() => db.execute(sql`SELECT 1 + no_such_column`)))
  assert.equal(`${e.code} ${e.position}`, '42703 12')
})
await check('drop', () => db.execute(sql`DROP TABLE ${things}`))
await db.$client.end()

if (env.support) {
  await check('tls', async () => { const d = open(tlsURL(), { ssl: tlsOptions() }); await d.execute(sql`SELECT 1`); await d.$client.end() })
  const [app, support, analyst, backing] = [open(env.url), open(env.support), open(env.analyst), open(env.backing)]
  let one
  await check('protected.insert', async () => {
    await app.delete(people)
    const rows = await app.insert(people).values([{ name: 'One', email: email1, ssn: ssn1 }, { name: 'Two', ssn: ssn2 }, { name: 'Three' }]).returning()
    one = rows[0]
    assert.equal(`${one.ssn} ${rows[1].ssn} ${rows[2].ssn}`, `${ssn1} ${ssn2} null`)
    await app.insert(pets).values([{ personId: one.id, name: 'Rex' }, { personId: one.id, name: 'Tom' }])
  })
  await check('protected.read', async () => assert.equal((await app.select().from(people).where(eq(people.id, one.id)))[0].email, email1))
  await check('protected.find', async () => assert.equal((await app.select().from(people).where(and(eq(people.ssn, ssn1), isNotNull(people.email))).limit(1))[0].name, 'One'))
  await check('protected.in', async () => assert.equal((await app.select().from(people).where(inArray(people.ssn, [ssn1, ssn2])).orderBy(desc(people.id)).limit(5)).length, 2))
  await check('protected.join', async () => {
    const rows = await app.select().from(pets).leftJoin(people, eq(pets.personId, people.id)).where(eq(people.ssn, ssn1))
    assert.equal(rows[0].people.ssn, ssn1)
  })
  await check('protected.count', async () => {
    assert.equal((await app.select({ n: count(people.ssn), d: countDistinct(people.ssn) }).from(people))[0].d, 2)
    assert.equal(await app.$count(people, eq(people.ssn, ssn1)), 1)
  })
  await check('protected.prepared', async () => {
    const p = app.select().from(people).where(eq(people.ssn, sql.placeholder('ssn'))).prepare('by_ssn')
    for (let i = 0; i < 12; i++) assert.equal((await p.execute({ ssn: ssn1 }))[0].ssn, ssn1)
  })
  await check('protected.relational', async () => {
    const found = await app.query.people.findFirst({ where: eq(people.ssn, ssn1), columns: { name: true, ssn: true } })
    assert.equal(found.ssn, ssn1)
  })
  await check('protected.relational_with', async () => {
    const found = await app.query.people.findFirst({ where: eq(people.id, one.id), with: { pets: true } })
    assert.equal(`${found.ssn} ${found.pets.length}`, `${ssn1} 2`)
  })
  await check('protected.relational_nested', async () => {
    const found = await app.query.pets.findFirst({ with: { person: true } })
    assert.equal(found.person.ssn, ssn1)
  })
  await check('protected.update', async () => assert.equal((await app.update(people).set({ ssn: ssn3, email: email2 }).where(eq(people.ssn, ssn1)).returning({ ssn: people.ssn }))[0].ssn, ssn3))
  await check('protected.upsert', () => app.insert(people).values({ id: one.id, name: 'One', ssn: ssn1 }).onConflictDoUpdate({ target: people.id, set: { ssn: ssn1 } }))
  await check('protected.upsert_excluded', () => app.insert(people).values({ id: one.id, name: 'One', ssn: ssn1 }).onConflictDoUpdate({ target: people.id, set: { ssn: sql`excluded.ssn` } }))
  const ssn = async (db) => (await db.select().from(people).where(eq(people.id, one.id)))[0].ssn
  await check('protected.masked', async () => assert.equal(await ssn(support), '***-**-9998'))
  await check('protected.token', async () => {
    const t = await ssn(analyst)
    assert.match(t, token)
    assert.equal(await ssn(backing), t)
  })
  await check('protected.invalid', async () => {
    const e = cause(await fails(() => app.update(people).set({ ssn: '219-09-99x8' })))
    assert.equal(e.code, '22P02')
    assert.ok(!e.message.includes('219-09'), 'the error repeats the value')
  })
  await check('protected.delete', () => app.delete(people))
  for (const d of [app, support, analyst, backing]) await d.$client.end()
}
