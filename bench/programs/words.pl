# SPDX-License-Identifier: MIT
# Allocation as Perl programs do it: hashes of arrays, strings, regular expressions.
# Argument: rounds.
use strict;
use warnings;

my $state = 1;

sub draw {
    my ($limit) = @_;
    $state = ($state * 1103515245 + 12345) % 2147483648;
    return int($state / 65536) % $limit;
}

my $sum = 0;
for my $round (1 .. $ARGV[0]) {
    my %places;
    for my $at (1 .. 12000) {
        my $word = 'w' . draw(3000) . 'x' x draw(20);
        push @{ $places{$word} }, $at;
    }
    my $text = join ' ', map { "$_:" . join(',', @{ $places{$_} }) } sort keys %places;
    while ($text =~ /(w\d+)x*:([\d,]+)/g) {
        $sum += length($1) + scalar(split /,/, $2);
    }
    $text =~ s/x+/X/g;
    $sum += length $text;
}
print "$sum\n";
