# Finds the mistakes that can be made in a C source of the CPU side.
#   my $list = mistakes($source, $file, $members);
# $source: from source() of statements.pl. $members: struct_members(@texts), the types of all structs' members.
# A mistake: {file, function, line, kind, at, end, instead, from, to, code, same, point}: the range of the text and its
# replacement; `from`, `to` and `code` (the line) in one line each; `same`: its index among equal ones in the function;
# `point`: number of the point (statements.pl) that is executed with it, or undef: any point of the file.
# tests/mutants/README.md lists the kinds and the exceptions.
use strict;
use warnings;

my $message = qr/(?:mcs_log|mcs_warn|mcs_error_add|mcs_progress_\w+|fprintf\(stderr)/;
my $not_mutated = qr/\b(?:mcs_log|mcs_warn|mcs_error_add|mcs_fail|mcs_trace|MCS_FAIL|mcs_progress_\w+|mcs_seconds|mcs_trace_\w+|perror|assert|static_assert|_Static_assert|sizeof|offsetof|__attribute__|va_start|va_end|omp_\w+|\w*alloc|strdup|kill)\s*(?=\()/;
my $release = qr/^\s*(?:\(void\))?(?:free|close|closedir|munmap|va_end|H5\w+close|\w*_(?:free|close|release|destroy|cleanup|clear|quiet|data_parallel_end|texts_end))\s*\(/;
my $symmetric = qr/^(?:strn?(?:case)?cmp|memcmp|fminf?|fmaxf?|MIN|MAX|hypotf?|cr_\w+|\w*_equal|\w*_same|\w*min|\w*max|\w*gcd|\w*swap)$/;

# The types of struct members by name; names with several types are omitted.
sub struct_members {
    my %type;
    for my $text (@_) {
        my $c = blanked($text);
        my $to = brackets($c);
        while ($c =~ /\bstruct\s+\w+\s*\{/g) {
            my $open = pos($c) - 1;
            my $close = $to->{$open} // next;
            for my $line (split /;/, substr $c, $open + 1, $close - $open - 1) {
                $line =~ s/^.*[{}]//s;
                my ($base, $rest) = $line =~ /^\s*((?:const |struct |enum |unsigned |volatile )*\w+)\s*([*\w].*)$/s or next;
                for my $d (split /,(?![^(]*\))/, $rest) {
                    my ($stars, $name, $array) = $d =~ /^\s*(\**)\s*(?:const )?(\w+)\s*(\[.*)?$/s or next;
                    my $t = ($base =~ s/\bconst //gr) . $stars . ($array ? '[]' : '');
                    $type{$name} = exists $type{$name} && ($type{$name} // '') ne $t ? undef : $t;
                }
            }
        }
    }
    return \%type;
}

# The types of a function's parameters and local variables.
sub local_types {
    my ($t) = @_;
    my %type;
    while ($t =~ /(?:^|[;{}(,])\s*((?:const |static |register |volatile )*(?:struct |enum |unsigned )*[A-Za-z_]\w*)\s+(\**)(?:restrict |const )?(?=\w+\s*[=;,\[)])/g) {
        my ($base, $stars) = ($1, $2);
        next if $base =~ /\b(?:return|else|goto|case|sizeof|do)$/;
        $base =~ s/\b(?:const|static|register|volatile) //g;
        my $first = 1;
        pos($t) = pos $t;
        while ($t =~ /\G\s*(\**)(\w+)\s*(\[[^;{}]*?\])?\s*(?:=\s*(?:[^,;(){}]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)|\{[^{}]*\})*)?\s*([,;)])/gc) {
            my ($own, $name, $array, $next) = ($1, $2, $3, $4);
            $type{$name} = $base . ($first ? $stars : $own) . ($array ? '[]' : '');
            $first = 0;
            last if $next ne ',';
            last if substr($t, pos $t, 60) =~ /^\s*(?:const |struct |enum |unsigned )|^\s*\w+\s+\**\w/; # the next parameter
        }
    }
    return \%type;
}

sub type_of {
    my ($e, $locals, $members) = @_;
    $e =~ s/^\s+|\s+$//g;
    return 'literal' if $e =~ /^-?\d+$/;
    my $address = $e =~ s/^&// ? '&' : '';
    return $locals->{$e} ? $address . $locals->{$e} : undef if $e =~ /^[A-Za-z_]\w*$/;
    if ($e =~ /^[A-Za-z_]\w*(?:\[[^\[\]]*\])?(?:(?:\.|->)\w+(?:\[[^\[\]]*\])?)*(?:\.|->)(\w+)$/) { return $members->{$1} ? $address . $members->{$1} : undef }
    if ($e =~ /^((?:[\w.]|->)*?)(\w+)\[[^\[\]]*\]$/) {
        my $t = (length $1 ? $members : $locals)->{$2} // return undef;
        return $t =~ s/(?:\[\]|\*)$// ? $address . $t : undef;
    }
    return undef;
}

sub is_float_type { return defined $_[0] && $_[0] =~ /^(?:float|double)$/ }

# Arguments of the call whose bracket opens at $open: [from, to] each.
sub arguments {
    my ($s, $open) = @_;
    my ($p, $close, @list) = ($open + 1, $s->{to}{$open});
    my $from = $p;
    for (; $p < $close; $p++) {
        my $ch = substr $s->{code}, $p, 1;
        if ($ch =~ /[(\[{]/) { $p = $s->{to}{$p} // return; next }
        if ($ch eq ',') { push @list, [$from, $p]; $from = $p + 1 }
    }
    push @list, [$from, $close];
    for (@list) {
        $_->[0]++ while $_->[0] < $_->[1] and substr($s->{text}, $_->[0], 1) =~ /\s/;
        $_->[1]-- while $_->[1] > $_->[0] and substr($s->{text}, $_->[1] - 1, 1) =~ /\s/;
    }
    return @list;
}

# Another number: 0 becomes 1, a small integer is incremented, larger ones and fractions are doubled. A guard against
# division by 0 (1e-8) is multiplied by 1000, since doubling would have no effect.
sub other_number {
    my ($t) = @_;
    if ($t =~ /^0[xX]/) { return $t =~ s/([0-9a-fA-F])([uUlL]*)$/sprintf '%x%s', hex($1) ^ 1, $2/er } # the last bit
    if ($t =~ /^(\d+)([uUlL]*)$/) { return ($1 < 10 ? $1 + 1 : $1 > 9e17 ? return undef : 2 * $1) . $2 }
    my ($v, $f) = $t =~ /^(.*?)([fFlL]?)$/;
    my $w = $v == 0 ? 1 : abs($v) < 1e-5 ? 1000 * $v : 2 * $v;
    $w = sprintf '%.12g', $w;
    $w .= '.0' if $w !~ /[.e]/;
    return $w . $f;
}

my $number = qr/(?<![\w.])(?:0[xX][0-9a-fA-F]+[uUlL]*|(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?[fFuUlL]*)(?![\w.])/;

sub mistakes {
    my ($s, $file, $members) = @_;
    my ($c, $text, $to) = @$s{qw(code text to)};
    my (@list, %same, $function, $point_at);
    my @starts = (0);
    while ($text =~ /\n/g) { push @starts, pos $text }
    my $line_of = sub {
        my ($lo, $hi) = (0, $#starts);
        while ($lo < $hi) { my $m = int(($lo + $hi + 1) / 2); if ($starts[$m] <= $_[0]) { $lo = $m } else { $hi = $m - 1 } }
        return $lo + 1;
    };
    my $left_alone = '';
    vec($left_alone, length $c, 1) = 0;
    my $leave = sub { vec($left_alone, $_, 1) = 1 for $_[0] .. $_[1] - 1 };
    my $add = sub {
        my ($kind, $at, $end, $instead) = @_;
        return if vec $left_alone, $at, 1;
        my $was = substr $text, $at, $end - $at;
        return if $was eq $instead;
        my $line = $line_of->($at);
        (my $code = substr $text, $starts[$line - 1], ($starts[$line] // length $text) - $starts[$line - 1]) =~ s/\s+/ /g;
        my $changed = $instead;
        # The copy keeps the line numbers of the original (__LINE__).
        $instead .= "\n" x (($was =~ tr/\n//) - ($instead =~ tr/\n//)) if ($was =~ tr/\n//) > ($instead =~ tr/\n//);
        for ($was, $changed, $code) { s/\s+/ /g; s/^ | $//g }
        $_ = length > 90 ? substr($_, 0, 87) . '...' : $_ for $was, $changed;
        my $same = ++$same{"$function|$kind|$was|$changed|$code"};
        push @list, {file => $file, function => $function, line => $line, kind => $kind, at => $at, end => $end, instead => $instead,
            from => $was, to => $changed, code => $code, same => $same, point => $point_at->($at)};
    };

    # Exceptions in the whole file.
    while ($c =~ /$not_mutated/g) { $leave->($-[0], ($to->{pos $c} // pos $c) + 1) }
    while ($c =~ /\bfprintf\(stderr\b/g) { my $open = $-[0] + 7; $leave->($-[0], ($to->{$open} // $open) + 1) }
    while ($c =~ /\b(?:MCS_REQUIRE(?:_GOTO)?|WANT)(?=\()/g) { # all but the condition
        my $open = pos $c;
        my @a = arguments($s, $open);
        $leave->($a[0][1], $to->{$open}) if @a;
    }
    # Handling of exhausted memory.
    while ($c =~ /\b(?:MCS_REQUIRE(?:_GOTO)?)(?=\()/g) {
        my ($from, $open) = ($-[0], pos $c);
        my @a = arguments($s, $open);
        $leave->($from, $to->{$open} + 1) if @a > 1 and substr($c, $a[1][0], $a[1][1] - $a[1][0]) eq 'MCS_E_NOMEM';
    }
    while ($c =~ /\benum\s*\w*\s*(?=\{)/g) { $leave->($-[0], $to->{pos $c} // pos $c) }
    while ($c =~ /\{0\}/g) { $leave->($-[0], pos $c) }
    while ($c =~ /(?:^|[;{}(,])\s*(?:static |const |volatile |unsigned |struct |enum )*\w+\s+\**\w+(?=\[)/gm) { # extents
        my $p = pos $c;
        next if substr($c, $-[0], $p - $-[0]) =~ /\b(?:return|else|case|goto)\b/;
        while ($p < length $c) {
            my $ch = substr $c, $p, 1;
            if ($ch eq '[') { my $e = $to->{$p} // last; $leave->($p, $e + 1); $p = $e + 1; next }
            if (substr($c, $p) =~ /^(\s*,\s*\**\w+)(?=[\[,;=])/) { $p += length $1; next }
            last;
        }
    }
    while ($c =~ /[{,]\s*(\[)[^\[\]]*\]\s*=(?!=)/g) { $leave->($-[1], pos $c) } # designators

    my $numbers = sub {
        my ($from, $end, $initialiser) = @_;
        my $step = 1; # larger for long tables
        if ($initialiser) { my $n = () = substr($c, $from, $end - $from) =~ /$number/g; $step = 1 + int($n / 100) if substr($text, $from, $end - $from) !~ /\.help = / }
        my $i = 0;
        pos($c) = $from;
        while ($c =~ /$number/g) {
            last if pos $c > $end;
            next if $i++ % $step;
            my ($p, $e) = ($-[0], pos $c);
            my $was = substr $c, $p, $e - $p;
            my $around = substr($c, $p > 12 ? $p - 12 : 0, $p > 12 ? 12 : $p);
            next if $around =~ /\bcase $/;
            my $is = $was eq '1' && ($around =~ /\breturn $/ || $around =~ /\.\w+ = $/ || substr($c, 0, $p) =~ /\b(?:is|has|want|any|all|found|ok|done|seen)\w* \|?= $/) ? '0' : other_number($was);
            $add->('constant', $p, $e, $is) if defined $is;
        }
        # Numbers and words in an option table.
        pos($text) = $from;
        while ($text =~ /\.def = "([^"]*)"([^{}]*?\.choices = "([^"]*)")?/g) {
            last if pos $text > $end;
            my ($def, $choices, $p) = ($1, $3, $-[1]);
            pos($text) = $p + length $def;
            if ($def =~ /^-?$number$/) {
                my ($sign, $v) = $def =~ /^(-?)(.*)$/;
                $add->('default', $p, $p + length $def, $sign . other_number($v));
            } elsif (defined $choices) {
                my @words = split /\|/, $choices;
                my ($i) = grep { $words[$_] eq $def } 0 .. $#words;
                $add->('default', $p, $p + length $def, $words[($i + 1) % @words]) if defined $i and @words > 1;
            } elsif (length $def) {
                $add->('default', $p, $p + length $def, "other_$def");
            }
        }
    };

    # Initialisers outside functions.
    my @inside = sort { $a->[0] <=> $b->[0] } map { [$_->{head}, $_->{to} + 1] } @{$s->{functions}};
    $point_at = sub { return undef };
    my $p = 0;
    for my $f (@inside, [length $c, length $c]) {
        pos($c) = $p;
        while ($c =~ /\b(\w+)\s*(?:\[[^\]=;]*\]\s*)*=(?!=)\s*/g) {
            last if $-[0] >= $f->[0];
            my ($name, $from) = ($1, pos $c);
            my $e = $from;
            while ($e < length $c and substr($c, $e, 1) ne ';') { $e = $to->{$e} // $e if substr($c, $e, 1) =~ /[(\[{]/; $e++ }
            $function = $name;
            $numbers->($from, $e, 1) if $e <= $f->[0];
            pos($c) = $e;
        }
        $p = $f->[1];
    }

    for my $f (grep { $_->{body} } @{$s->{functions}}) {
        $function = $f->{name};
        my ($from, $end) = @$f{qw(from to)};
        # The innermost statement at a place.
        my (@statements, @todo);
        @todo = @{$f->{body}};
        while (my $one = shift @todo) {
            push @statements, $one;
            push @todo, @{$one->{body} // []}, $one->{other} // ();
        }
        $point_at = sub {
            my ($at) = @_;
            my $best;
            for (@statements) { $best = $_ if $_->{from} <= $at and $at < $_->{to} and (!$best or $_->{from} >= $best->{from}) }
            return $best ? $best->{point} // $f->{point} : $f->{point};
        };
        my $locals = local_types(substr $c, $f->{head}, $end - $f->{head});
        my $is_float = sub {
            my ($e) = @_;
            return 1 if $e =~ /\b\d+\.\d*|\b\d+e[-+]?\d|\bINFINITY\b|\b(?:fabs|fmax|fmin|sqrt|exp|log|pow|floor|round|hypot)f?\(|\((?:float|double)\)/;
            1 while $e =~ s/\([^()]*\)/ /g;
            for my $name ($e =~ /((?:\w+(?:\[[^\[\]]*\])?(?:\.|->))*\w+(?:\[[^\[\]]*\])?)/g) { return 1 if is_float_type(type_of($name, $locals, $members)) }
            return 0;
        };
        my $each = sub { # pattern, what to do with each match
            my ($pattern, $do) = @_;
            pos($c) = $from;
            while ($c =~ /$pattern/g) {
                my ($p, $q, @groups) = ($-[0], pos $c, $1, $2);
                last if $q > $end;
                $do->($p, $q, @groups);
                pos($c) = $q;
            }
        };
        # Sizes of memory: variables named so that go to an allocation of this function.
        my %size;
        pos($c) = $from;
        while ($c =~ /\b\w*alloc\w*(?=\()/g) {
            last if pos $c > $end;
            my $open = pos $c;
            $size{$_} = 1 for grep { /bytes|room|capacity|size$/ } substr($c, $open, ($to->{$open} // $open) - $open) =~ /\b([a-z]\w*)\b/g;
        }
        for my $one (grep { $_->{kind} eq 'simple' } @statements) {
            my ($name) = substr($c, $one->{from}, $one->{to} - $one->{from}) =~ /^(?:(?:const )?(?:size_t|int64_t|int) )?(\w+) [-+*]?= [^,]*;$/ or next;
            $leave->($one->{from}, $one->{to}) if $size{$name};
        }
        # Conditions that only determine whether a message is shown or a handle is closed.
        for my $one (grep { $_->{kind} eq 'if' and !$_->{other} } @statements) {
            my @does = $one->{body}[0]{kind} eq 'block' ? @{$one->{body}[0]{body}} : $one->{body}[0];
            $leave->($one->{from}, $one->{to}) unless grep { substr($c, $_->{from}, $_->{to} - $_->{from}) !~ /^$message\b|$release/ } @does;
        }
        # Only the sign of a qsort comparison function's result matters.
        if (substr($c, $f->{head}, $from - $f->{head}) =~ /\(const void \*\w+, const void \*\w+\)/) {
            pos($c) = $from;
            while ($c =~ /(?<![\w.])1(?![\w.])/g) { last if pos $c > $end; $leave->($-[0], pos $c) }
        }
        $numbers->($from, $end, 0);

        # Statements dropped; conditions negated; predicates that return the opposite.
        my $says = substr($c, $f->{head}, $from - $f->{head}) =~ /\b(?:int|bool|_Bool)\s+\w+\s*\(/;
        for my $one (@statements) {
            my $t = substr $c, $one->{from}, $one->{to} - $one->{from};
            if ($one->{kind} eq 'simple') {
                my $jump = $t =~ /^(?:break|continue)\s*;/;
                if ($t =~ /^return\b/) {
                    $add->('return', $one->{from} + 7, $one->{to} - 1, '!(' . substr($text, $one->{from} + 7, $one->{to} - $one->{from} - 8) . ')')
                        if $says and $t =~ / (?:==|!=|<|>|<=|>=|&&|\|\|) |^return !/ and $t !~ / \? /;
                    next;
                }
                next if $t =~ /^(?:goto)\b/ or $t =~ /^;/ or $t =~ $release or $t =~ /^\(void\)\w+;/;
                next if !$jump and $t =~ /^(?:(?:const|static|struct|enum|unsigned|volatile|extern|typedef)\b|\w+\s+\**\w+\s*(?:=[^=]|;|,|\[))/; # declarations
                $add->('drop', $one->{from}, $one->{to}, ';');
            } elsif ($one->{kind} eq 'if') {
                my ($o, $e) = @{$one->{head}};
                $add->('negate', $o + 1, $e - 1, '!(' . substr($text, $o + 1, $e - $o - 2) . ')');
            }
        }
        # c ? a : b
        $each->(qr/ \? /, sub {
            my ($p) = @_;
            my $s0 = $p;
            # The condition begins after an operator of lower precedence.
            while ($s0 > $from) {
                my $ch = substr $c, $s0 - 1, 1;
                if ($ch =~ /[)\]}]/) { $s0 = $to->{$s0 - 1} // last; next }
                last if $ch =~ /[(\[{;,]/ or substr($c, $s0 > 3 ? $s0 - 3 : 0, 3) =~ /(?:[^=!<>]= |\? | : )$/ or substr($c, 0, $s0) =~ /\breturn\s$/;
                $s0--;
            }
            $s0++ while substr($c, $s0, 1) =~ /\s/;
            $add->('negate', $s0, $p, '!(' . substr($text, $s0, $p - $s0) . ')');
        });
        # Comparisons.
        my %other = ('<' => '<=', '<=' => '<', '>' => '>=', '>=' => '>', '==' => '!=', '!=' => '==');
        my %turned = ('<' => '>=', '<=' => '>', '>' => '<=', '>=' => '<');
        $each->(qr/ (<|<=|>|>=|==|!=) (?=\S)/, sub {
            my ($p, $q, $op) = @_;
            my ($e, $b) = (operand_end($c, $to, $q, $end), operand_start($c, $to, $p));
            my ($right, $left) = (substr($text, $q, $e - $q), substr($text, $b, $p - $b));
            my ($x, $y) = ($p + 1, $q - 1);
            if ($op =~ /==|!=/) {
                # The whole condition; "negate" covers it.
                my $alone = substr($c, 0, $b) =~ /\bif \($/ && substr($c, $e, 1) eq ')';
                $add->('equal', $x, $y, $other{$op}) unless $alone;
                return;
            }
            my $tail = substr $c, $e, 200;
            my $choice = $tail =~ /^\s+\?\s+(?:\Q$left\E\s+:\s+\Q$right\E|\Q$right\E\s+:\s+\Q$left\E)\s*[;,)\]]/
                || $tail =~ /^\)\s*(?:\{\s*)?(?:\Q$left\E = \Q$right\E|\Q$right\E = \Q$left\E);/;
            if ($choice or $is_float->($left) or $is_float->($right)) { $add->('compare', $x, $y, $turned{$op}) }
            elsif (substr($c, 0, $b) =~ /\bfor \([^;()]*(?:\([^()]*\)[^;()]*)*;\s$/ and $op =~ /^<=?$/) { $add->('bound', $q, $e, "$right - 1") }
            else { $add->('bound', $x, $y, $other{$op}) }
        });
        # Operators.
        my %arithmetic = ('+' => '-', '-' => '+', '*' => '/', '/' => '*', '%' => '/', '&&' => '||', '||' => '&&', '<<' => '>>', '>>' => '<<', '&' => '|', '|' => '&');
        $each->(qr/ ([-+*\/%]|&&|\|\||<<|>>|[&|]) (?=\S)/, sub {
            my ($p, $q, $op) = @_;
            return if $op eq '*' and substr($c, 0, $p) =~ /(?:^|[;{}(,]\s*)(?:const |static )*(?:struct |enum )?\w+$/ and substr($c, $q) =~ /^\w+\s*[=;,)]/ and ($locals->{substr($c, $q) =~ /^(\w+)/ ? $1 : ''} // '') =~ /\*/;
            $add->($op =~ /&&|\|\|/ ? 'logic' : 'operator', $p + 1, $q - 1, $arithmetic{$op});
        });
        my %assign = ('+=' => '=', '-=' => '+=', '*=' => '=', '/=' => '*=', '|=' => '=', '&=' => '=', '^=' => '=', '<<=' => '>>=', '>>=' => '<<=', '%=' => '=');
        $each->(qr/ (\+=|-=|\*=|\/=|\|=|&=|\^=|<<=|>>=|%=) /, sub { my ($p, $q, $op) = @_; $add->('assign', $p + 1, $q - 1, $assign{$op}) });
        my %pair = (fminf => 'fmaxf', fmaxf => 'fminf', fmin => 'fmax', fmax => 'fmin', MIN => 'MAX', MAX => 'MIN', floorf => 'ceilf',
            ceilf => 'floorf', floor => 'ceil', ceil => 'floor', sinf => 'cosf', cosf => 'sinf', sin => 'cos', cos => 'sin');
        $each->(qr/\b(fminf?|fmaxf?|MIN|MAX|floorf?|ceilf?|sinf?|cosf?)(?=\()/, sub { my ($p, $q, $name) = @_; $add->('function', $p, $q, $pair{$name}) });
        # Indices.
        $each->(qr/(?<=[\w\])])\[/, sub {
            my ($p) = @_;
            my $e = $to->{$p} // return;
            my $index = substr $text, $p + 1, $e - $p - 1;
            return if $index =~ /^\s*\d*\s*$/ or $e > $end;
            $add->('index', $p + 1, $e, '0');
        });
        # Two adjacent arguments of one type.
        $each->(qr/\b([A-Za-z_]\w*)(?=\()/, sub {
            my ($p, $q, $name) = @_;
            return if $name =~ /^(?:if|for|while|switch|return|sizeof|MCS_REQUIRE\w*|WANT|defined)$/ or $name =~ $symmetric;
            my @a = arguments($s, $q);
            for my $i (0 .. $#a - 1) {
                my ($x, $y) = map { substr $text, $_->[0], $_->[1] - $_->[0] } @a[$i, $i + 1];
                next if $x eq $y;
                my ($t, $u) = map { type_of($_, $locals, $members) } $x, $y;
                next unless defined $t and defined $u and $t eq $u;
                $add->('swap', $a[$i][0], $a[$i + 1][1], $y . substr($text, $a[$i][1], $a[$i + 1][0] - $a[$i][1]) . $x);
            }
        });
    }
    return \@list;
}

# The key, which does not change when the mistake's file is moved, renamed or edited elsewhere.
sub mistake_key {
    my ($m) = @_;
    return "cpu | $m->{function} | $m->{kind} | $m->{from} => $m->{to} | $m->{code}" . ($m->{same} > 1 ? " | $m->{same}" : '');
}
sub planted { my ($s, $m) = @_; my $t = $s->{text}; substr($t, $m->{at}, $m->{end} - $m->{at}) = $m->{instead}; return $t }
1;
