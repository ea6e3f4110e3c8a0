# DBD::Pg: prepared by the server from the second execution, COPY, asynchronous statements.
use strict;
use warnings;
use utf8;
use DBI;
use DBD::Pg qw(:pg_types :async);
binmode STDOUT, ':utf8';

print "# version DBD::Pg $DBD::Pg::VERSION\n";
my ($ssn1, $ssn2, $ssn3) = ('219-09-9998', '457-55-5462', '512-34-7788');

sub check {
    my ($name, $f) = @_;
    if (eval { $f->(); 1 }) { print "ok $name\n"; return }
    (my $why = $@) =~ s/\s+/ /g;
    print "not ok $name: $why\n";
}

sub same {
    my ($got, $want) = map { defined $_ ? $_ : 'NULL' } @_;
    die "got $got, want $want" if $got ne $want;
}

sub fails {
    my ($f) = @_;
    eval { $f->(); 1 } and die 'no error';
    return $@;
}

sub open_url {
    my ($url, $options) = @_;
    my ($user, $password, $host, $port, $name) = $url =~ m{^postgres://(.*?):(.*?)@(.*?):(\d+)/([^?]*)} or die 'bad URL';
    $options ||= 'sslmode=disable';
    $host = 'localhost' if $options =~ /verify-full/;
    return DBI->connect("dbi:Pg:host=$host;port=$port;dbname=$name;$options", $user, $password,
        { RaiseError => 1, PrintError => 0, PrintWarn => 0, AutoCommit => 1 });
}

sub one { my ($db, $sql, @args) = @_; my ($v) = $db->selectrow_array($sql, undef, @args); return $v }

my $db = open_url($ENV{DRIVERS_URL});
check('connect', sub { die 'no ping' unless $db->ping });
for my $t (['int2', -32768], ['int4', 2147483647], ['int8', '-9223372036854775808'], ['numeric', '-1234567890123.4567'], ['float4', '1.5'], ['float8', '1e-300'],
    ['text', 'Grüße \\ \' " 🐘 ?'], ['date', '2024-02-29'], ['timestamp', '2024-02-29 12:34:56.789012'], ['uuid', '01020304-0506-0708-090a-0b0c0d0e0f10'],
    ['json', '{"a": [1, null]}'], ['jsonb', '{"a": "b"}'], ['bool', 1]) {
    my ($type, $value) = @$t;
    check("types.$type", sub { same(one($db, "SELECT CAST(? AS $type)", $value), $value) });
}
check('types.null', sub { same(one($db, 'SELECT CAST(? AS text)', undef), undef) });
check('types.array', sub { my $a = one($db, 'SELECT CAST(? AS text[])', ['a,b', '"q"', '']); same(join('|', @$a), 'a,b|"q"|') });
check('types.bytea', sub {
    my $s = $db->prepare('SELECT CAST(? AS bytea)');
    $s->bind_param(1, "\x00\x01\xff\\", { pg_type => PG_BYTEA });
    $s->execute;
    same(($s->fetchrow_array)[0], "\x00\x01\xff\\");
});
check('parameter', sub {
    my $s = $db->prepare('SELECT CAST(? AS text) || CAST(? AS int4)');
    for my $i (0 .. 11) { $s->execute('sent-marker', $i); same(($s->fetchrow_array)[0], "sent-marker$i") }
});
check('parameter.simple', sub {
    local $db->{pg_server_prepare} = 0;
    for my $i (0 .. 11) { same(one($db, 'SELECT CAST(? AS text) || CAST(? AS int4)', 'sent-marker', $i), "sent-marker$i") }
});
check('batch', sub {
    $db->do('CREATE TEMP TABLE batched (id int, note text)');
    my $s = $db->prepare('INSERT INTO batched VALUES (?, ?)');
    $s->execute_array({}, [1 .. 300], 'n');
    same(one($db, 'SELECT count(*) FROM batched'), 300);
});
check('copy', sub {
    $db->do('COPY batched FROM STDIN');
    $db->pg_putcopydata("$_\tx\n") for 1 .. 5000;
    $db->pg_putcopyend;
    $db->do('COPY (SELECT g FROM generate_series(1, 3) g) TO STDOUT');
    my ($all, $row) = ('', undef);
    $all .= $row while $db->pg_getcopydata($row) >= 0;
    same($all, "1\n2\n3\n");
    same(one($db, 'SELECT count(*) FROM batched'), 5300);
});
check('transaction', sub {
    $db->do('CREATE TEMP TABLE kept (id int)');
    $db->begin_work;
    $db->do('INSERT INTO kept VALUES (?)', undef, 1);
    $db->pg_savepoint('s');
    fails(sub { $db->do('SELECT 1 / CAST(? AS int)', undef, 0) });
    same($db->state, '22012');
    $db->pg_rollback_to('s');
    $db->commit;
    $db->begin_work;
    $db->do('DELETE FROM kept');
    $db->rollback;
    same(one($db, 'SELECT count(*) FROM kept'), 1);
});
check('cancel', sub {
    my $s = $db->prepare('SELECT pg_sleep(20)', { pg_async => PG_ASYNC });
    $s->execute;
    select(undef, undef, undef, 0.3);
    $db->pg_cancel;
    die 'took' if $db->state ne '57014' && $db->state ne '';
    same(one($db, 'SELECT 1'), 1);
});
check('listen', sub {
    $db->do('LISTEN drivers_dbd');
    my $other = open_url($ENV{DRIVERS_URL});
    $other->do("SELECT pg_notify('drivers_dbd', ?)", undef, 'told');
    $other->disconnect;
    my $n;
    for (1 .. 50) { last if $n = $db->pg_notifies; select(undef, undef, undef, 0.1) }
    same($n->[2], 'told');
});
check('error.position', sub {
    fails(sub { $db->do('SELECT 1 + no_such_column') });
    same($db->state . ' ' . $db->pg_error_field('statement_position'), '42703 12');
});
check('error.detail', sub {
    $db->do('CREATE TEMP TABLE uniques (id int PRIMARY KEY)');
    fails(sub { $db->do('INSERT INTO uniques VALUES (1), (1)') });
    same($db->state . ' ' . ($db->pg_error_field('detail') // 'none'), '23505 Key (id)=(1) already exists.');
});
check('catalog', sub {
    $db->do('CREATE TABLE drivers_dbd (id int PRIMARY KEY, note text)');
    my $columns = $db->column_info(undef, undef, 'drivers_dbd', '%')->fetchall_arrayref;
    same(scalar(@$columns), 2);
    same(join(',', $db->primary_key(undef, undef, 'drivers_dbd')), 'id');
    $db->foreign_key_info(undef, undef, 'drivers_dbd', undef, undef, undef);
    $db->statistics_info(undef, undef, 'drivers_dbd', 0, 0)->fetchall_arrayref;
    $db->do('DROP TABLE drivers_dbd');
});
check('large', sub { same(length(one($db, 'SELECT CAST(? AS text)', 'x' x (8 << 20))), 8 << 20) });
$db->disconnect;

if ($ENV{DRIVERS_SUPPORT_URL}) {
    check('tls', sub { open_url($ENV{DRIVERS_URL}, "sslmode=verify-full;sslrootcert=$ENV{DRIVERS_CA}")->disconnect });
    my ($app, $support, $analyst, $backing) = map { open_url($ENV{$_}) } qw(DRIVERS_URL DRIVERS_SUPPORT_URL DRIVERS_ANALYST_URL DRIVERS_BACKING_URL);
    my $id;
    my $ssn = sub { one($_[0], 'SELECT ssn FROM people WHERE id = ?', $id) };
    check('protected.insert', sub {
        $app->do('DELETE FROM people');
        $id = one($app, 'INSERT INTO people (name, email, ssn) VALUES (?, ?, ?) RETURNING id', 'One', 'planted.one@example.com', $ssn1);
    });
    check('protected.read', sub { same($ssn->($app), $ssn1) });
    check('protected.find', sub {
        my $s = $app->prepare('SELECT name FROM people WHERE ssn = ?');
        for (1 .. 12) { $s->execute($ssn1); same(($s->fetchrow_array)[0], 'One') }
    });
    check('protected.simple', sub {
        local $app->{pg_server_prepare} = 0;
        same(one($app, 'SELECT name FROM people WHERE ssn IN (?, ?)', $ssn1, $ssn3), 'One');
    });
    check('protected.update', sub { $app->do('UPDATE people SET ssn = ? WHERE ssn = ?', undef, $ssn2, $ssn1); same($ssn->($app), $ssn2) });
    check('protected.batch', sub {
        my $s = $app->prepare('INSERT INTO people (name, ssn) VALUES (?, ?)');
        $s->execute_array({}, 'n', [map { "512-34-$_" } 1000 .. 1020]);
        same(one($app, 'SELECT count(ssn) FROM people'), 22);
    });
    check('protected.masked', sub { same($ssn->($support), '***-**-5462') });
    check('protected.token', sub { my $t = $ssn->($analyst); die "no token: $t" unless $t =~ /^[A-Z]{3}-\d\d-\d{4}$/; same($ssn->($backing), $t) });
    check('protected.invalid', sub {
        my $e = fails(sub { $app->do('UPDATE people SET ssn = ?', undef, '219-09-99x8') });
        same($app->state, '22P02');
        die 'the error repeats the value' if $e =~ /219-09/;
    });
    check('protected.catalog', sub { same(scalar(@{ $app->column_info(undef, undef, 'people', '%')->fetchall_arrayref }), 7) });
    check('protected.delete', sub { $app->do('DELETE FROM people') });
    $_->disconnect for $app, $support, $analyst, $backing;
}
