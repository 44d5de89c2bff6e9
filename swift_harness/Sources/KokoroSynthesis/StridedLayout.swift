import Foundation

/// Where the values of an array lie in memory that may have gaps: the Neural Engine begins every
/// row at a multiple of 64 bytes.
package struct StridedLayout: Sendable, Equatable {
    /// Length of each axis.
    let shape: [Int]
    /// Values from one place of an axis to the next.
    let strides: [Int]
    /// Size of a value in bytes.
    let itemBytes: Int

    /// A layout; nil if the axes do not match, or a stride is negative.
    package init?(shape: [Int], strides: [Int], itemBytes: Int) {
        guard shape.count == strides.count, itemBytes > 0, shape.allSatisfy({ $0 >= 0 }),
            strides.allSatisfy({ $0 >= 0 })
        else { return nil }
        self.shape = shape
        self.strides = strides
        self.itemBytes = itemBytes
    }

    /// Size of the values without gaps in bytes.
    package var packedBytes: Int { shape.reduce(itemBytes, *) }

    /// From the first value to the end of the last, in bytes.
    package var spannedBytes: Int {
        guard packedBytes > 0 else { return 0 }
        return (zip(shape, strides).reduce(0) { $0 + ($1.0 - 1) * $1.1 } + 1) * itemBytes
    }

    /// The values row by row without gaps; nil if the memory ends before the last of them.
    package func packed(_ memory: UnsafeRawBufferPointer) -> Data? {
        guard memory.count >= spannedBytes else { return nil }
        var data = Data(count: packedBytes)
        data.withUnsafeMutableBytes { target in
            forEachRun { place, offset, count in
                UnsafeMutableRawBufferPointer(rebasing: target[place..<place + count]).copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: memory[offset..<offset + count]))
            }
        }
        return data
    }

    /// Writes values to where they lie; false if there are more or fewer of them, or the memory
    /// ends before the last.
    package func unpack(_ data: Data, into memory: UnsafeMutableRawBufferPointer) -> Bool {
        guard data.count == packedBytes, memory.count >= spannedBytes else { return false }
        data.withUnsafeBytes { source in
            forEachRun { place, offset, count in
                UnsafeMutableRawBufferPointer(rebasing: memory[offset..<offset + count]).copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: source[place..<place + count]))
            }
        }
        return true
    }

    /// Whether `isGood` holds for all runs of values; nil if the memory ends before the last.
    package func allRuns(
        of memory: UnsafeRawBufferPointer, satisfy isGood: (UnsafeRawBufferPointer) -> Bool
    ) -> Bool? {
        guard memory.count >= spannedBytes else { return nil }
        var areGood = true
        forEachRun { _, offset, count in
            areGood =
                areGood
                && isGood(UnsafeRawBufferPointer(rebasing: memory[offset..<offset + count]))
        }
        return areGood
    }

    /// Goes through the stretches that have no gaps: place among the packed bytes, offset in
    /// memory, and size, all in bytes.
    private func forEachRun(_ body: (Int, Int, Int) -> Void) {
        guard packedBytes > 0 else { return }
        let (outer, run) = withoutPackedAxes()
        var index = [Int](repeating: 0, count: outer)
        var offset = 0
        for place in stride(from: 0, to: packedBytes, by: run) {
            body(place, offset * itemBytes, run)
            for axis in (0..<outer).reversed() {
                index[axis] += 1
                offset += strides[axis]
                guard index[axis] == shape[axis] else { break }
                offset -= shape[axis] * strides[axis]
                index[axis] = 0
            }
        }
    }

    /// How many axes there are in front of those that follow one another without gaps, and the
    /// bytes of these.
    private func withoutPackedAxes() -> (outer: Int, bytes: Int) {
        var axis = shape.count
        var values = 1
        while axis > 0, shape[axis - 1] == 1 || strides[axis - 1] == values {
            values *= shape[axis - 1]
            axis -= 1
        }
        return (axis, values * itemBytes)
    }
}
