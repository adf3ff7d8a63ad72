#!/usr/bin/perl
# perl tests/lint/comments.pl FILE...: comments of C and CUDA sources that hide their meaning in a relative clause used as a noun
# ("what the width adds lies in memory of its own"). Prints the places and exits 1 where there are any. A sentence that needs
# such words bears the mark "(plain)" in its comment; at most ten comments may.
use strict;
use warnings;

my $riddle = qr/\b[Ww]hat (?:the|a|an|it|lies|is|they)\b|\bof (?:its|their|one's) own\b|\bwhat [a-z]+ (?:gives|adds|takes|has)\b/;
my $allowed = 10;
my ($bad, @marked) = (0);
for my $file (@ARGV) {
    open my $in, '<', $file or die "lint: cannot read $file: $!\n";
    my $text = do { local $/; <$in> };
    # A string or a character is skipped whole, so that a comment's beginning in it is none.
    while ($text =~ m{"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)+'|(/\*.*?\*/|//[^\n]*)}gs) {
        next unless defined $1;
        my ($comment, $start) = ($1, $-[1]);
        (my $sentence = $comment) =~ s{\n[ \t]*\*?[ \t]*}{ }g; # of several lines
        next unless $sentence =~ $riddle;
        my $words = $&;
        my $line = 1 + (substr($text, 0, $start) =~ tr/\n//);
        if ($sentence =~ /\(plain\)/) { push @marked, "$file:$line"; next }
        print "$file:$line: \"$words\": say it as a plain sentence\n";
        $bad++;
    }
}
if (@marked > $allowed) {
    print "$_: marked (plain)\n" for @marked;
    printf "%d comments are marked (plain), at most %d may be\n", scalar @marked, $allowed;
    $bad++;
}
exit($bad ? 1 : 0);
