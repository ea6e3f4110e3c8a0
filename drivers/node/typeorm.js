// TypeORM over node-postgres, with entities as schemas.
import typeorm from 'typeorm'
import { assert, check, email1, email2, env, fails, ssn1, ssn2, ssn3, tlsOptions, tlsURL, token, version, when } from './check.js'

version('typeorm')
const { DataSource, EntitySchema, In, Not, IsNull } = typeorm
const Thing = new EntitySchema({
  name: 'Thing', tableName: 'drivers_typeorm',
  columns: {
    id: { type: 'int', primary: true, generated: 'increment' }, name: { type: 'varchar', length: 40, unique: true }, n: { type: 'int', nullable: true },
    price: { type: 'numeric', precision: 12, scale: 4, nullable: true }, on: { type: 'boolean', nullable: true }, at: { type: 'timestamptz', nullable: true },
    key: { type: 'uuid', nullable: true }, data: { type: 'jsonb', nullable: true }, tags: { type: 'text', array: true, nullable: true }, bytes: { type: 'bytea', nullable: true },
  },
})
const Person = new EntitySchema({
  name: 'Person', tableName: 'people', synchronize: false,
  columns: {
    id: { type: 'bigint', primary: true, generated: 'identity', generatedIdentity: 'BY DEFAULT' }, name: { type: 'text' }, email: { type: 'text', nullable: true }, ssn: { type: 'text', nullable: true, unique: true },
    createdAt: { type: 'timestamptz', name: 'created_at', createDate: true },
  },
  relations: { pets: { type: 'one-to-many', target: 'Pet', inverseSide: 'person', cascade: true } },
})
const Pet = new EntitySchema({
  name: 'Pet', tableName: 'pets', synchronize: false,
  columns: { id: { type: 'bigint', primary: true, generated: 'identity', generatedIdentity: 'BY DEFAULT' }, name: { type: 'text' } },
  relations: { person: { type: 'many-to-one', target: 'Person', joinColumn: { name: 'person_id' }, inverseSide: 'pets' } },
})
const open = (url, more = {}) => new DataSource({ type: 'postgres', url: url.replace(/\?.*/, ''), entities: [Thing, Person, Pet], ...more }).initialize()
const db = await open(env.url)
const things = db.getRepository(Thing)
await check('connect', () => db.query('SELECT 1'))
await check('synchronize', async () => { await db.query('DROP TABLE IF EXISTS drivers_typeorm'); await db.synchronize(); await db.synchronize() })
const thing = { name: 'a\'\\"', n: -5, price: '12345.6789', on: true, at: when, key: '01020304-0506-0708-090a-0b0c0d0e0f10', data: { a: [1, null] }, tags: ['x,y', '"'], bytes: Buffer.from([0, 1, 255]) }
await check('insert', async () => {
  const { id } = await things.save({ ...thing })
  assert.deepEqual({ ...(await things.findOneBy({ name: thing.name })) }, { id, ...thing })
})
await check('bulk', () => things.save(Array.from({ length: 50 }, (_, i) => ({ name: 'row ' + i, n: i })), { chunk: 20 }))
await check('parameter', async () => {
  for (let i = 0; i < 12; i++) assert.equal((await db.query('SELECT $1::text || $2::int4 AS v', ['sent-marker', i]))[0].v, 'sent-marker' + i)
})
await check('upsert', () => things.upsert({ name: 'row 1', n: 77 }, ['name']))
await check('transaction', async () => {
  await fails(() => db.transaction(async (m) => {
    await m.delete(Thing, { name: 'row 2' })
    await fails(() => m.transaction((inner) => inner.query('SELECT 1 / $1::int', [0])))
    await m.query('SELECT 1')
    throw new Error('back')
  }))
  assert.equal(await things.count(), 51)
})
await check('stream', async () => assert.equal(typeof (await things.createQueryBuilder('t').orderBy('t.id').take(10).skip(5).getManyAndCount())[1], 'number'))
await check('error.position', async () => {
  const e = await fails(() => db.query('SELECT 1 + no_such_column'))
  assert.equal(`${e.code} ${e.position}`, '42703 12')
})
await check('drop', () => db.query('DROP TABLE drivers_typeorm'))
await db.destroy()

if (env.support) {
  await check('tls', async () => (await open(tlsURL(), { ssl: tlsOptions() })).destroy())
  const [app, support, analyst, backing] = await Promise.all([env.url, env.support, env.analyst, env.backing].map((u) => open(u)))
  const people = app.getRepository(Person)
  let one
  await check('protected.insert', async () => {
    await people.createQueryBuilder().delete().execute()
    one = await people.save({ name: 'One', email: email1, ssn: ssn1, pets: [{ name: 'Rex' }, { name: 'Tom' }] })
    await people.insert([{ name: 'Two', ssn: ssn2 }, { name: 'Three' }])
  })
  await check('protected.find', async () => assert.equal((await people.findOneBy({ ssn: ssn1 })).email, email1))
  await check('protected.in', async () => assert.equal((await people.find({ where: { ssn: In([ssn1, ssn2]) }, order: { id: 'DESC' }, take: 5 })).length, 2))
  await check('protected.relations', async () => {
    const found = await people.find({ where: { ssn: ssn1 }, relations: { pets: true } })
    assert.equal(`${found[0].ssn} ${found[0].pets.length}`, `${ssn1} 2`)
  })
  await check('protected.relations_one', async () => {
    const found = await people.findOne({ where: { ssn: ssn1 }, relations: { pets: true } })
    assert.equal(`${found.ssn} ${found.pets.length}`, `${ssn1} 2`)
  })
  await check('protected.join', async () => {
    const pet = await app.getRepository(Pet).createQueryBuilder('pet').innerJoinAndSelect('pet.person', 'p', 'p.ssn = :ssn', { ssn: ssn1 }).getOne()
    assert.equal(pet.person.ssn, ssn1)
  })
  await check('protected.page', async () => {
    const [rows, n] = await people.findAndCount({ where: { ssn: Not(IsNull()) }, order: { id: 'ASC' }, skip: 1, take: 1, relations: { pets: true } })
    assert.equal(`${rows[0].ssn} ${n}`, `${ssn2} 2`)
  })
  await check('protected.save', async () => {
    const found = await people.findOneBy({ ssn: ssn1 })
    found.ssn = ssn3
    await people.save(found)
    await people.update({ ssn: ssn3 }, { email: email2 })
    assert.equal((await people.findOneByOrFail({ email: email2 })).ssn, ssn3)
  })
  await check('protected.upsert', () => people.upsert({ id: one.id, name: 'One', ssn: ssn1 }, ['id']))
  await check('protected.exists', async () => assert.equal(await people.existsBy({ ssn: ssn2 }), true))
  const ssn = async (d) => (await d.getRepository(Person).findOneBy({ id: one.id })).ssn
  await check('protected.masked', async () => assert.match(await ssn(support), /^\*{3}-\*{2}-\d{4}$/))
  await check('protected.token', async () => {
    const t = await ssn(analyst)
    assert.match(t, token)
    assert.equal(await ssn(backing), t)
  })
  await check('protected.invalid', async () => {
    const e = await fails(() => people.update({ id: one.id }, { ssn: '219-09-99x8' }))
    assert.equal(e.code, '22P02')
    assert.ok(!e.message.includes('219-09'), 'the error repeats the value')
  })
  await check('protected.schema', async () => {
    const q = app.createQueryRunner()
    assert.equal((await q.getTable('people')).columns.length, 7)
    await q.release()
  })
  await check('protected.delete', () => people.createQueryBuilder().delete().execute())
  for (const d of [app, support, analyst, backing]) await d.destroy()
}
