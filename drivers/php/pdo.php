<?php
// PHP PDO: named prepared statements, emulated ones, COPY, LISTEN, large objects.
const SSN1 = '219-09-9998', SSN2 = '457-55-5462', SSN3 = '512-34-7788';

function check(string $name, callable $f): void
{
    try {
        $f();
        echo "ok $name\n";
    } catch (Throwable $e) {
        echo "not ok $name: ", preg_replace('/\s+/', ' ', $e->getMessage()), "\n";
    }
}

function same(mixed $got, mixed $want): void
{
    if ($got !== $want) {
        throw new Exception('got ' . var_export($got, true) . ', want ' . var_export($want, true));
    }
}

function fails(callable $f): PDOException
{
    try {
        $f();
    } catch (PDOException $e) {
        return $e;
    }
    throw new Exception('no error');
}

function open(string $url, string $options = 'sslmode=disable'): PDO
{
    preg_match('~^postgres://(.*?):(.*?)@(.*?):(\d+)/([^?]*)~', $url, $m);
    $host = str_contains($options, 'verify-full') ? 'localhost' : $m[3];
    return new PDO("pgsql:host=$host;port=$m[4];dbname=$m[5];$options", $m[1], $m[2], [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
}

function rows(PDO $db, string $sql, array $args = [], array $options = []): array
{
    $s = $db->prepare($sql, $options);
    $s->execute($args);
    return $s->fetchAll(PDO::FETCH_NUM);
}

$db = open(getenv('DRIVERS_URL'));
echo '# version PDO_PGSQL ', PHP_VERSION, "\n";
check('connect', fn () => same(rows($db, 'SELECT 1')[0][0], 1));
foreach ([['int2', -32768], ['int4', 2147483647], ['int8', PHP_INT_MIN], ['numeric', '-1234567890123.4567'], ['text', "Grüße \\ ' \" 🐘 ?"], ['date', '2024-02-29'],
    ['timestamp', '2024-02-29 12:34:56.789012'], ['uuid', '01020304-0506-0708-090a-0b0c0d0e0f10'], ['json', '{"a": [1, null]}'], ['jsonb', '{"a": "b"}'],
    ['int4[]', '{1,-2,NULL}'], ['text', null]] as [$type, $value]) {
    check('types.' . ($value === null ? 'null' : $type), fn () => same(rows($db, "SELECT CAST(? AS $type)", [$value])[0][0], $value));
}
foreach ([['float4', 1.5], ['float8', 1e-300]] as [$type, $value]) {
    check("types.$type", fn () => same((float) rows($db, "SELECT CAST(? AS $type)", [$value])[0][0], $value));
}
check('types.bool', function () use ($db) {
    $s = $db->prepare('SELECT CAST(? AS bool)');
    $s->bindValue(1, true, PDO::PARAM_BOOL);
    $s->execute();
    same($s->fetchColumn(), true);
});
check('types.bytea', function () use ($db) {
    $s = $db->prepare('SELECT CAST(? AS bytea)');
    $s->bindValue(1, "\x00\x01\xff\\", PDO::PARAM_LOB);
    $s->execute();
    same(stream_get_contents($s->fetchColumn()), "\x00\x01\xff\\");
});
check('types.timestamptz', fn () => same(rows($db, "SELECT CAST(? AS timestamptz) AT TIME ZONE 'UTC'", ['2024-02-29 12:34:56.789012+00'])[0][0], '2024-02-29 12:34:56.789012'));
check('parameter', function () use ($db) {
    $s = $db->prepare('SELECT CAST(:v AS text) || CAST(:i AS int4)');
    for ($i = 0; $i < 12; $i++) {
        $s->execute(['v' => 'sent-marker', 'i' => $i]);
        same($s->fetchColumn(), "sent-marker$i");
    }
});
foreach (['emulated' => PDO::ATTR_EMULATE_PREPARES, 'unprepared' => PDO::PGSQL_ATTR_DISABLE_PREPARES] as $name => $attribute) {
    check("parameter.$name", function () use ($db, $attribute) {
        for ($i = 0; $i < 12; $i++) {
            same(rows($db, 'SELECT CAST(? AS text) || CAST(? AS int4)', ['sent-marker', $i], [$attribute => true])[0][0], "sent-marker$i");
        }
    });
}
check('copy', function () use ($db) {
    $db->exec('CREATE TEMP TABLE copied (id int, note text)');
    $db->pgsqlCopyFromArray('copied', array_map(fn ($i) => "$i\tx", range(1, 5000)));
    same(count($db->pgsqlCopyToArray('copied')), 5000);
});
check('transaction', function () use ($db) {
    $db->exec('CREATE TEMP TABLE kept (id int)');
    $db->beginTransaction();
    rows($db, 'INSERT INTO kept VALUES (?)', [1]);
    $db->exec('SAVEPOINT s');
    same(fails(fn () => rows($db, 'SELECT 1 / CAST(? AS int)', [0]))->getCode(), '22012');
    $db->exec('ROLLBACK TO s');
    $db->commit();
    $db->beginTransaction();
    $db->exec('DELETE FROM kept');
    $db->rollBack();
    same(rows($db, 'SELECT count(*) FROM kept')[0][0], 1);
});
check('cursor', function () use ($db) {
    $s = $db->prepare('SELECT g FROM generate_series(1, 250) g', [PDO::ATTR_CURSOR => PDO::CURSOR_SCROLL]);
    $s->execute();
    $n = 0;
    while ($s->fetch()) {
        $n++;
    }
    same($n, 250);
});
check('timeout', function () use ($db) { // PDO has no cancel
    $db->exec("SET statement_timeout = '200ms'");
    same(fails(fn () => rows($db, 'SELECT pg_sleep(20)'))->getCode(), '57014');
    $db->exec('RESET statement_timeout');
});
check('listen', function () use ($db) {
    $db->exec('LISTEN drivers_pdo');
    rows(open(getenv('DRIVERS_URL')), "SELECT pg_notify('drivers_pdo', ?)", ['told']);
    same($db->pgsqlGetNotify(PDO::FETCH_ASSOC, 5000)['payload'], 'told');
});
check('error.state', function () use ($db) {
    $e = fails(fn () => $db->query('SELECT 1 + no_such_column'));
    same($e->getCode(), '42703');
    same((bool) preg_match('/LINE 1: SELECT 1 \+ no_such_column\s+\^/', $e->getMessage()), true);
});
check('error.detail', function () use ($db) {
    $db->exec('CREATE TEMP TABLE uniques (id int PRIMARY KEY)');
    $e = fails(fn () => $db->exec('INSERT INTO uniques VALUES (1), (1)'));
    same(str_contains($e->getMessage(), 'DETAIL:  Key (id)=(1) already exists.'), true);
});
check('largeobject', function () use ($db) {
    $db->beginTransaction();
    $oid = $db->pgsqlLOBCreate();
    fwrite($db->pgsqlLOBOpen($oid, 'w'), 'large');
    same(fread($db->pgsqlLOBOpen($oid, 'r'), 10), 'large');
    $db->rollBack();
});
check('meta', fn () => same($db->query("SELECT oid FROM pg_class WHERE relname = 'pg_class'")->getColumnMeta(0)['table'] !== '', true));
check('large', fn () => same(strlen(rows($db, 'SELECT CAST(? AS text)', [str_repeat('x', 8 << 20)])[0][0]), 8 << 20));

if (getenv('DRIVERS_SUPPORT_URL')) {
    check('tls', fn () => open(getenv('DRIVERS_URL'), 'sslmode=verify-full;sslrootcert=' . getenv('DRIVERS_CA')));
    [$app, $support, $analyst, $backing] = array_map(fn ($n) => open(getenv("DRIVERS_$n")), ['URL', 'SUPPORT_URL', 'ANALYST_URL', 'BACKING_URL']);
    $id = 0;
    $ssn = function (PDO $db) use (&$id) {
        return rows($db, 'SELECT ssn FROM people WHERE id = ?', [$id])[0][0];
    };
    check('protected.insert', function () use ($app, &$id) {
        $app->exec('DELETE FROM people');
        $id = rows($app, 'INSERT INTO people (name, email, ssn) VALUES (?, ?, ?) RETURNING id', ['One', 'planted.one@example.com', SSN1])[0][0];
    });
    check('protected.read', fn () => same($ssn($app), SSN1));
    check('protected.find', function () use ($app) {
        $s = $app->prepare('SELECT name FROM people WHERE ssn = :ssn');
        for ($i = 0; $i < 12; $i++) {
            $s->execute(['ssn' => SSN1]);
            same($s->fetchColumn(), 'One');
        }
    });
    foreach (['emulated' => PDO::ATTR_EMULATE_PREPARES, 'unprepared' => PDO::PGSQL_ATTR_DISABLE_PREPARES] as $name => $attribute) {
        check("protected.$name", fn () => same(rows($app, 'SELECT ssn FROM people WHERE ssn IN (?, ?)', [SSN1, SSN3], [$attribute => true]), [[SSN1]]));
    }
    check('protected.update', function () use ($app, $ssn) {
        rows($app, 'UPDATE people SET ssn = ? WHERE ssn = ?', [SSN2, SSN1]);
        same($ssn($app), SSN2);
    });
    check('protected.masked', fn () => same($ssn($support), '***-**-5462'));
    check('protected.token', function () use ($analyst, $backing, $ssn) {
        same(preg_match('/^[A-Z]{3}-\d\d-\d{4}$/', $ssn($analyst)), 1);
        same($ssn($backing), $ssn($analyst));
    });
    check('protected.invalid', function () use ($app) {
        $e = fails(fn () => rows($app, 'UPDATE people SET ssn = ?', ['219-09-99x8']));
        same([$e->getCode(), str_contains($e->getMessage(), '219-09')], ['22P02', false]);
    });
    check('protected.cursor', function () use ($app) {
        $s = $app->prepare('SELECT ssn FROM people', [PDO::ATTR_CURSOR => PDO::CURSOR_SCROLL]);
        $s->execute();
        same($s->fetchColumn(), SSN2);
    });
    check('protected.meta', fn () => same($app->query('SELECT ssn FROM people')->getColumnMeta(0)['table'], 'people'));
    check('protected.delete', fn () => $app->exec('DELETE FROM people'));
}
