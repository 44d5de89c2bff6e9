import KokoroBundle
import XCTest

@testable import KokoroSynthesis

final class TensorTests: XCTestCase {
    func testHalfPrecisionIsWidenedToTheSameValue() {
        let values: [(UInt16, Float)] = [
            (0x0000, 0), (0x3C00, 1), (0xC000, -2), (0x7BFF, 65_504), (0x0001, 0x1p-24),
            (0x03FF, 1023 * 0x1p-24), (0x0400, 0x1p-14), (0x3555, 0.333_251_953_125),
            (0x7C00, .infinity), (0xFC00, -.infinity),
        ]
        for (half, value) in values { XCTAssertEqual(ElementBits.widened(half), value) }
        XCTAssertEqual(ElementBits.widened(0x8000).sign, .minus)
        XCTAssert(ElementBits.widened(0x7E00).isNaN)
    }

    func testNotANumberAndInfinityAreSeenInEachType() throws {
        for (bits, isFinite) in [(0x7BFF, true), (0x7C00, false), (0xFE01, false)] {
            let bytes = Data([0, 0, UInt8(bits & 0xFF), UInt8(bits >> 8)])
            let tensor = try Tensor(bytes: bytes, type: .float16, shape: [2])
            XCTAssertEqual(try tensor.isFinite(), isFinite)
        }
        XCTAssert(try Tensor([0, .greatestFiniteMagnitude], shape: [2]).isFinite())
        for bad in [Float.nan, .infinity, -.infinity] {
            XCTAssertFalse(try Tensor([0, bad], shape: [1, 2]).isFinite())
        }
        XCTAssert(try Tensor([Int32.min, -1], shape: [2]).isFinite())
    }

    func testValuesAreReadAsWhatTheyAre() throws {
        XCTAssertEqual(try Tensor([1.5, -2], shape: [2]).floats(), [1.5, -2])
        XCTAssertEqual(try Tensor([7, Int32.min], shape: [2]).int32s(), [7, .min])
        XCTAssertThrowsError(try Tensor([Int32(7)], shape: [1]).floats())
        XCTAssertThrowsError(try Tensor([Float(7)], shape: [1]).int32s())
        XCTAssertThrowsError(try Tensor(bytes: Data(count: 5), type: .float16, shape: [2]))
    }
}
