"""Secure lists: secret indices, updates, search and order."""

from __future__ import annotations

from mpyc import seclists
from mpyc.runtime import mpc
from mpyc.seclists import secindex


async def main() -> None:
    secint = mpc.SecInt(16)
    async with mpc:
        place = mpc.input(secint(2), senders=0)
        numbers = mpc.seclist([5, 3, 8, 1], secint)
        print("list", await mpc.output([*numbers]), numbers.sectype is secint, len(numbers))
        print("items", await mpc.output([numbers[0], numbers[place], numbers[-1]]), await mpc.output([*numbers[1:3]]))
        numbers[place] = 9
        numbers[0] = secint(4)
        print("set", await mpc.output([*numbers]))
        numbers.append(7)
        numbers.extend([secint(2), 2])
        numbers += [6]
        print("longer", await mpc.output([*numbers]), await mpc.output([*(numbers + [1])]))
        numbers.insert(place, 11)
        numbers.insert(0, 12)
        print("inserted", await mpc.output([*numbers]))
        print("popped", await mpc.output([numbers.pop(), numbers.pop(place), numbers.pop(0)]))
        del numbers[place]
        await numbers.remove(2)
        print("removed", await mpc.output([*numbers]))
        found = [numbers.contains(7), numbers.contains(99), numbers.count(2), numbers.find(7), numbers.find(99)]
        print("found", await mpc.output(found), await mpc.output(numbers.index(7)))
        other = numbers.copy()
        other.sort(reverse=True)
        print("sorted", await mpc.output([*other]), await mpc.output([*numbers]))
        other.sort(key=lambda number: number)
        print("sorted", await mpc.output([*other]))
        print("compared", await mpc.output([numbers < other, numbers <= other, numbers == other, numbers != other]))
        print("compared", await mpc.output([numbers > other, numbers >= other, numbers == numbers.copy()]))
        print("repeated", await mpc.output([*(seclists.seclist([secint(1), secint(2)]) * 2)]))
        index = secindex([secint(0), secint(1), secint(0), secint(0), secint(0)])
        print("index", await mpc.output(numbers[index]), await mpc.output(index.value), index.sectype is secint)
        print("index", sum(await mpc.output(secindex.random(secint, 3).value)), index.offset)
        print("fields", await mpc.output([*mpc.seclist([1, 2, 3], mpc.SecFld(101))]))


if __name__ == "__main__":
    mpc.run(main())
