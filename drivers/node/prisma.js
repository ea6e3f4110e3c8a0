// Prisma's runtime: its query compiler (in the package) and the adapter for node-postgres. `prisma generate` has made the client from schema.prisma.
import { PrismaPg } from '@prisma/adapter-pg'
import prisma from '@prisma/client'
import { assert, check, email1, email2, env, fails, ssn1, ssn2, ssn3, tlsOptions, tlsURL, token, version, when } from './check.js'

version('@prisma/client')
const open = (connectionString, more = {}) => new prisma.PrismaClient({ adapter: new PrismaPg({ connectionString, ...more }) })
const db = open(env.url)
const cause = (e) => e.meta?.driverAdapterError?.cause ?? e.cause ?? e
await check('connect', () => db.$connect())
await check('create', async () => {
  await db.$executeRaw`DROP TABLE IF EXISTS drivers_prisma`
  await db.$executeRaw`CREATE TABLE drivers_prisma (id serial PRIMARY KEY, name text UNIQUE NOT NULL, n int, big int8, price numeric(12,4), ratio float8, "on" bool, day date, at timestamptz(6), key uuid, data jsonb, tags text[], bytes bytea)`
})
const thing = { name: 'a\'\\"', n: -5, big: -9223372036854775808n, price: '12345.6789', ratio: 1.5, on: true, day: new Date('2024-02-29'), at: when, key: '01020304-0506-0708-090a-0b0c0d0e0f10',
  data: { a: [1, null] }, tags: ['x,y', '"'], bytes: new Uint8Array([0, 1, 255]) }
await check('insert', async () => {
  const { price, ...rest } = await db.thing.create({ data: thing })
  const { price: wanted, ...want } = thing
  assert.equal(price.toString(), wanted)
  assert.deepEqual({ ...rest, bytes: new Uint8Array(rest.bytes) }, { id: 1, ...want })
})
await check('createMany', async () => assert.equal((await db.thing.createMany({ data: Array.from({ length: 50 }, (_, i) => ({ name: 'row ' + i, n: i })) })).count, 50))
await check('parameter', async () => {
  for (let i = 0; i < 12; i++) assert.equal((await db.$queryRaw`SELECT ${'sent-marker'}::text || ${i}::int4 AS v`)[0].v, 'sent-marker' + i)
})
await check('upsert', async () => assert.equal((await db.thing.upsert({ where: { name: 'row 1' }, update: { n: 77 }, create: { name: 'row 1' } })).n, 77))
await check('aggregate', async () => assert.equal((await db.thing.aggregate({ _max: { n: true } }))._max.n, 77))
await check('transaction', async () => {
  await fails(() => db.$transaction(async (tx) => { await tx.thing.deleteMany(); throw new Error('back') }))
  await db.$transaction([db.thing.delete({ where: { name: 'row 2' } }), db.thing.update({ where: { name: 'row 3' }, data: { n: { increment: 5 } } })])
  assert.equal(await db.thing.count(), 50)
})
await check('error.unique', async () => assert.equal((await fails(() => db.thing.create({ data: { name: 'row 1' } }))).code, 'P2002'))
await check('error.state', async () => assert.equal((await fails(() => db.$queryRaw`SELECT 1 + no_such_column`)).meta.driverAdapterError.cause.originalCode, '42703'))
await check('drop', () => db.$executeRaw`DROP TABLE drivers_prisma`)
await db.$disconnect()

if (env.support) {
  await check('tls', async () => { const d = open(tlsURL(), { ssl: tlsOptions() }); await d.$queryRaw`SELECT 1`; await d.$disconnect() })
  const [app, support, analyst, backing] = [env.url, env.support, env.analyst, env.backing].map((u) => open(u))
  let one
  await check('protected.insert', async () => {
    await app.person.deleteMany()
    one = await app.person.create({ data: { name: 'One', email: email1, ssn: ssn1 } })
    assert.equal(one.ssn, ssn1)
  })
  await check('protected.nested', () => app.pet.createMany({ data: [{ personId: one.id, name: 'Rex' }, { personId: one.id, name: 'Tom' }] }))
  await check('protected.createMany', async () => assert.equal((await app.person.createMany({ data: [{ name: 'Two', ssn: ssn2 }, { name: 'Three' }] })).count, 2))
  await check('protected.unique', async () => assert.equal((await app.person.findUnique({ where: { ssn: ssn1 } })).email, email1))
  await check('protected.find', async () => assert.equal((await app.person.findFirst({ where: { ssn: ssn1 } })).email, email1))
  await check('protected.in', async () => assert.equal((await app.person.findMany({ where: { ssn: { in: [ssn1, ssn2] } }, orderBy: { id: 'desc' }, take: 5 })).length, 2))
  await check('protected.include', async () => {
    const found = await app.person.findMany({ where: { ssn: ssn1 }, include: { pets: true } })
    assert.equal(`${found[0].ssn} ${found[0].pets.length}`, `${ssn1} 2`)
  })
  await check('protected.relation', async () => assert.equal((await app.pet.findFirst({ where: { person: { ssn: ssn1 } }, include: { person: true } })).person.ssn, ssn1))
  await check('protected.page', async () => assert.equal((await app.person.findMany({ where: { NOT: { ssn: null } }, orderBy: { id: 'asc' }, skip: 1, take: 1 }))[0].ssn, ssn2))
  await check('protected.count', async () => assert.equal((await app.person.count({ select: { ssn: true } })).ssn, 2))
  await check('protected.update', async () => {
    assert.equal((await app.person.update({ where: { ssn: ssn1 }, data: { ssn: ssn3 } })).ssn, ssn3)
    await app.person.updateMany({ where: { ssn: ssn3 }, data: { email: email2 } })
    assert.equal((await app.person.findUnique({ where: { id: one.id } })).email, email2)
  })
  await check('protected.upsert', async () => assert.equal((await app.person.upsert({ where: { id: one.id }, update: { ssn: ssn1 }, create: { name: 'One', ssn: ssn1 } })).ssn, ssn1))
  await check('protected.upsert_unique', async () => assert.equal((await app.person.upsert({ where: { ssn: ssn1 }, update: { name: 'Uno' }, create: { name: 'One', ssn: ssn1 } })).name, 'Uno'))
  await check('protected.distinct', async () => assert.equal((await app.person.findMany({ where: { NOT: { ssn: null } }, distinct: ['ssn'] })).length, 2))
  await check('protected.transaction', async () => {
    await fails(() => app.$transaction(async (tx) => { await tx.person.create({ data: { name: 'Lost', ssn: ssn3 } }); throw new Error('back') }))
    assert.equal(await app.person.findUnique({ where: { ssn: ssn3 } }), null)
  })
  const ssn = async (d) => (await d.person.findUnique({ where: { id: one.id } })).ssn
  await check('protected.masked', async () => assert.match(await ssn(support), /^\*{3}-\*{2}-\d{4}$/))
  await check('protected.token', async () => {
    const t = await ssn(analyst)
    assert.match(t, token)
    assert.equal(await ssn(backing), t)
  })
  await check('protected.invalid', async () => {
    const e = await fails(() => app.person.updateMany({ data: { ssn: '219-09-99x8' } }))
    assert.equal(cause(e).originalCode ?? cause(e).code, '22P02')
    assert.ok(!e.message.includes('219-09'), 'the error repeats the value')
  })
  await check('protected.delete', () => app.person.deleteMany())
  for (const d of [app, support, analyst, backing]) await d.$disconnect()
}
